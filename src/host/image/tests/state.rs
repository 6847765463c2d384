use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use super::super::state::State;
use super::*;

fn state(bench: &Bench, name: &str) -> State {
    State::of(Path::new(name), &File::open(bench.path(name)).unwrap()).unwrap()
}

fn touch(bench: &Bench, name: &str, time: SystemTime) {
    File::options().write(true).open(bench.path(name)).unwrap().set_modified(time).unwrap();
}

#[test]
fn what_an_archive_and_a_build_make_of_a_file() {
    let bench = Bench::new();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5);
    ["x", "y"].iter().for_each(|name| drop(bench.write(name, &disk())));
    ["x", "y"].iter().for_each(|name| touch(&bench, name, time));
    let (x, same) =
        (state(&bench, "x"), |x: &State, y: &State| (*x == *y, x.is_same_by_seconds(y), x.is_same_content(y)));
    assert_eq!(same(&x, &state(&bench, "y")), (true, true, true));
    touch(&bench, "y", time - Duration::from_nanos(5));
    assert_eq!(same(&x, &state(&bench, "y")), (false, true, true));
    touch(&bench, "y", time + Duration::from_secs(1));
    assert_eq!(same(&x, &state(&bench, "y")), (false, false, true));
}

#[test]
fn another_content_is_seen_in_the_header_at_the_end_and_in_between() {
    let bench = Bench::new();
    let good = disk();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    bench.write("x", &good);
    touch(&bench, "x", time);
    let x = state(&bench, "x");
    let step = (good.len() - 4096) / 16;
    for at in [0, 510, 65_535, step, 7 * step + 4095, good.len() - 1] {
        bench.write("y", &good);
        let file = File::options().write(true).open(bench.path("y")).unwrap();
        file.write_all_at(&[good[at] ^ 1], at as u64).unwrap();
        touch(&bench, "y", time);
        assert!(!x.is_same_content(&state(&bench, "y")) && !x.is_same_by_seconds(&state(&bench, "y")), "{at}");
    }
    for len in [good.len() - 1, good.len() + 1] {
        let mut other = good.clone();
        other.resize(len, 0);
        bench.write("y", &other);
        touch(&bench, "y", time);
        assert!(!x.is_same_content(&state(&bench, "y")), "{len}");
    }
    // Shorter than what is read of the beginning.
    bench.write("y", &good[..512]);
    assert!(state(&bench, "y") == state(&bench, "y"));
}
