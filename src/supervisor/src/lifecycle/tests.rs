use std::time::Duration;

use super::pause::{GIVE_UP, RETRY, UNEXPLAINED};
use super::stopping::{AGAIN, ANSWER, LOOK};
use super::*;

/// What comes, and what is to be done about it: orders, and lines as text.
enum Step {
    Signal(&'static [VmCommand]),
    Escape(&'static [VmCommand]),
    Told(VmEvent, &'static [VmCommand]),
    /// So much time goes by.
    After(Duration, &'static [VmCommand]),
    /// The last step said this line.
    Said(&'static str),
    /// It is paused, or not.
    Is(State),
}
use Step::*;

const PRESS: &[VmCommand] = &[VmCommand::PowerButton];
const END: &[VmCommand] = &[VmCommand::Destroy];
const RESUME: &[VmCommand] = &[VmCommand::Resume];

/// Walks through the steps, checking each; returns the exit status, if the VM has ended.
fn walk(name: &str, steps: Vec<Step>) -> Option<i32> {
    let mut life = Lifecycle::new();
    let mut now = Instant::now();
    let mut said = Vec::new();
    for (i, step) in steps.into_iter().enumerate() {
        let (acts, want) = match step {
            Signal(want) => (life.stop(now), want),
            Escape(want) => (life.escape(), want),
            Told(news, want) => (life.news(news, now), want),
            After(time, want) => {
                now += time;
                if !want.is_empty() {
                    assert!(life.deadline().is_some_and(|due| due <= now), "{name}, step {i}: no wake-up for it");
                }
                (life.turn(now), want)
            }
            Said(line) => {
                assert_eq!(std::mem::take(&mut said), [line], "{name}, step {i}");
                continue;
            }
            Is(state) => {
                assert_eq!(life.state().0, state, "{name}, step {i}");
                continue;
            }
        };
        assert!(said.is_empty(), "{name}, before step {i}: {said:?}");
        let mut orders = Vec::new();
        for act in acts {
            match act {
                Act::VmCommand(order) => orders.push(order),
                Act::Say(error) => said.push(error.to_string()),
            }
        }
        assert_eq!(orders, want, "{name}, step {i}");
    }
    assert!(said.is_empty(), "{name}, at the end: {said:?}");
    life.exit().map(Exit::status)
}

fn error() -> Error {
    Error::new("libvirt", "no")
}

fn started() -> Step {
    Told(VmEvent::Started, &[])
}

fn stopped(stop: Stop) -> Step {
    Told(VmEvent::Stopped(stop), &[])
}

fn by_guest(by_guest: bool) -> Step {
    Told(VmEvent::ShuttingDown { by_guest }, &[])
}

fn pressed(button: Button) -> Step {
    Told(VmEvent::Button(button), &[])
}

#[test]
fn exit_status() {
    use super::VmEvent as N;
    let cases = [
        ("runs", vec![started()], None),
        ("guest power-off", vec![started(), by_guest(true), stopped(Stop::Shutdown)], Some(0)),
        ("reboot", vec![started(), Told(N::Rebooted, &[])], None),
        ("QEMU got SIGTERM", vec![started(), by_guest(false), stopped(Stop::Shutdown)], Some(1)),
        ("QEMU got SIGKILL", vec![started(), stopped(Stop::Failed)], Some(1)),
        ("panic", vec![started(), stopped(Stop::Crashed)], Some(1)),
        ("destroyed by another", vec![started(), stopped(Stop::Destroyed)], Some(1)),
        ("cannot start", vec![Told(N::StartFailed(error()), &[])], Some(1)),
        ("libvirt thread gone", vec![started(), Told(N::Lost, &[])], Some(1)),
        ("lost after the end", vec![started(), stopped(Stop::Shutdown), Told(N::Lost, &[])], Some(0)),
        ("stop twice", vec![started(), Signal(PRESS), Signal(&[]), by_guest(true), stopped(Stop::Shutdown)], Some(0)),
        ("stop and crash", vec![started(), Signal(PRESS), stopped(Stop::Crashed)], Some(1)),
        ("escape", vec![started(), Escape(END), stopped(Stop::Destroyed)], Some(130)),
        ("escape after a stop", vec![started(), Signal(PRESS), Escape(END), stopped(Stop::Destroyed)], Some(130)),
        ("escape as the guest goes", vec![started(), Escape(END), stopped(Stop::Shutdown)], Some(130)),
        ("stop before the start", vec![Signal(&[]), Told(N::Started, END), stopped(Stop::Destroyed)], Some(0)),
        ("escape before the start", vec![Escape(&[]), Told(N::Started, END), stopped(Stop::Destroyed)], Some(130)),
        ("stop before a failing start", vec![Signal(&[]), Told(N::StartFailed(error()), &[])], Some(0)),
        ("stop after the end", vec![started(), stopped(Stop::Shutdown), Signal(&[]), After(AGAIN, &[])], Some(0)),
    ];
    for (name, steps, want) in cases {
        assert_eq!(walk(name, steps), want, "{name}");
    }
}

#[test]
fn the_button_is_pressed_until_the_guest_reacts() {
    let nothing = "stop: the guest listens to no power button yet and has written nothing (the VM ends at once)";
    let cases = [
        (
            "again and again, and not while QEMU has not answered",
            vec![
                started(),
                Signal(PRESS),
                After(AGAIN, &[]),
                pressed(Button::Pressed),
                After(AGAIN / 2, &[]),
                After(AGAIN / 2, PRESS),
                pressed(Button::Pressed),
                After(AGAIN, PRESS),
            ],
            None,
        ),
        (
            "not once the guest has reacted",
            vec![started(), Signal(PRESS), pressed(Button::Pressed), by_guest(true), After(AGAIN, &[])],
            None,
        ),
        ("not into a guest that goes already", vec![started(), by_guest(true), Signal(&[]), After(AGAIN, &[])], None),
        (
            "into the guest that comes up instead",
            vec![started(), Signal(PRESS), pressed(Button::Pressed), Told(VmEvent::Rebooted, &[]), After(AGAIN, PRESS)],
            None,
        ),
        (
            "as soon as somebody listens",
            vec![started(), Signal(PRESS), pressed(Button::Unheard), After(LOOK, PRESS), pressed(Button::Pressed)],
            None,
        ),
        (
            "nobody listens, and nothing can be lost",
            vec![
                started(),
                Signal(PRESS),
                Told(VmEvent::Button(Button::NothingToLose), END),
                Said(nothing),
                stopped(Stop::Destroyed),
            ],
            Some(0),
        ),
        (
            "a press that fails is told once and repeated",
            vec![
                started(),
                Signal(PRESS),
                Told(VmEvent::CommandFailed(VmCommand::PowerButton, error()), &[]),
                Said("libvirt: no"),
                After(AGAIN, PRESS),
                Told(VmEvent::CommandFailed(VmCommand::PowerButton, error()), &[]),
            ],
            None,
        ),
        (
            "a QEMU that hangs is told, and does not keep it from being ended",
            vec![
                started(),
                Signal(PRESS),
                After(ANSWER, &[]),
                Said("stop: QEMU does not answer (it hangs, or the host does)"),
                After(ANSWER, &[]),
                Escape(END),
                stopped(Stop::Destroyed),
            ],
            Some(130),
        ),
    ];
    for (name, steps, want) in cases {
        assert_eq!(walk(name, steps), want, "{name}");
    }
}

fn disk_failed(full: bool, pauses: bool) -> Step {
    Told(VmEvent::DiskFailed(DiskFailure { disk: "vdc".into(), full, pauses }), &[])
}

/// A disk's failure as libvirt tells it, and what is said of it.
fn pauses(full: bool) -> [Step; 4] {
    let line = if full {
        "disk vdc: the host's storage is full: the VM is paused (it goes on by itself as soon as it can; podman \
         stop ends it)"
    } else {
        "disk vdc: the host cannot write to it: the VM is paused (it goes on by itself as soon as it can; podman \
         stop ends it)"
    };
    [disk_failed(full, true), Told(VmEvent::Paused { by_disk: true }, &[]), Said(line), Is(State::Paused)]
}

fn goes_on() -> Step {
    Told(VmEvent::GoesOn, &[])
}

/// The VM is told to go on, does, and comes to stand again; nothing is said of it.
fn in_vain() -> [Step; 6] {
    [
        After(RETRY / 2, &[]),
        After(RETRY / 2, RESUME),
        goes_on(),
        disk_failed(true, true),
        Told(VmEvent::Paused { by_disk: true }, &[]),
        Is(State::Paused),
    ]
}

#[test]
fn a_vm_that_its_disk_has_paused_goes_on_when_it_can() {
    let mut steps = vec![started()];
    steps.extend(pauses(true));
    steps.extend((0..3).flat_map(|_| in_vain()));
    steps.extend([After(RETRY, RESUME), goes_on(), Is(State::Paused), After(RETRY, &[])]);
    steps.extend([Said("disk vdc: the host's storage has room again: the VM goes on"), Is(State::Running)]);
    // The next time is told again, and a resume that fails is one that is repeated.
    steps.extend(pauses(false));
    steps.extend([After(RETRY, RESUME), Told(VmEvent::CommandFailed(VmCommand::Resume, error()), &[])]);
    steps.extend([After(RETRY, RESUME), goes_on(), After(RETRY, &[])]);
    steps.extend([Said("disk vdc: the host can write to it again: the VM goes on"), After(RETRY, &[])]);
    steps.extend([by_guest(true), stopped(Stop::Shutdown)]);
    assert_eq!(walk("goes on", steps), Some(0));
}

const STOP_SAID: &str = "stop: disk vdc: the host's storage is full (the guest can shut down if that is mended \
                         within 5 s; else it is ended as it is)";

#[test]
fn a_stop_of_a_paused_vm_waits_a_little_for_the_disk() {
    let both: &[VmCommand] = &[VmCommand::Resume, VmCommand::PowerButton];
    let mut mended = vec![started()];
    mended.extend(pauses(true));
    mended.extend([Signal(both), Said(STOP_SAID), pressed(Button::Pressed), goes_on()]);
    mended.extend([by_guest(true), Is(State::ShuttingDown), After(GIVE_UP, &[]), stopped(Stop::Shutdown)]);
    assert_eq!(walk("mended in time", mended), Some(0));

    let mut full = vec![started()];
    full.extend(pauses(true));
    full.extend([Signal(both), Said(STOP_SAID), goes_on(), disk_failed(true, true)]);
    full.extend([Told(VmEvent::Paused { by_disk: true }, &[]), After(RETRY, RESUME), goes_on()]);
    full.extend([Told(VmEvent::Paused { by_disk: true }, &[]), After(GIVE_UP - RETRY, &[VmCommand::Quit])]);
    full.extend([by_guest(false), stopped(Stop::Shutdown)]);
    assert_eq!(walk("still full", full), Some(1));

    // Full only when the guest shuts down.
    let mut late = vec![started(), Signal(PRESS), pressed(Button::Pressed)];
    late.extend(pauses(true));
    late.extend([After(Duration::ZERO, RESUME), goes_on(), Told(VmEvent::Paused { by_disk: true }, &[])]);
    late.extend([After(GIVE_UP, &[VmCommand::Quit]), stopped(Stop::Destroyed)]);
    assert_eq!(walk("full on the way down", late), Some(1));
}

#[test]
fn what_else_a_vm_stands_still_for() {
    let panic = vec![started(), Told(VmEvent::Paused { by_disk: false }, &[]), stopped(Stop::Crashed)];
    assert_eq!(walk("a panic", panic), Some(1));

    let unknown = vec![
        started(),
        Told(VmEvent::Paused { by_disk: false }, &[]),
        Is(State::Paused),
        After(UNEXPLAINED, END),
        stopped(Stop::Destroyed),
    ];
    assert_eq!(walk("QEMU's own trouble", unknown), Some(1));

    let told = "disk vdc: a request has failed on the host (the guest was told)";
    let reported = vec![started(), disk_failed(false, false), Said(told), disk_failed(false, false)];
    assert_eq!(walk("a failure that the guest was told", reported), None);

    let asleep = "the VM: the guest has put itself to sleep, and nobody else would wake it (it is woken)";
    let wake: &[VmCommand] = &[VmCommand::Wake];
    let asleep = vec![started(), Told(VmEvent::Asleep, wake), Said(asleep), Told(VmEvent::Asleep, wake)];
    assert_eq!(walk("asleep", asleep), None);
}
