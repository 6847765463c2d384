//! Container images.

use std::fs;
use std::path::Path;

use super::{Dir, Form, LABEL, Podman, Run, directory, guest, run, source, text, unique};

/// A container image, removed when this is dropped.
pub struct Image {
    pub podman: Podman,
    pub tag: String,
}

impl Image {
    /// A tag for an image that does not exist yet.
    pub fn named(podman: Podman) -> Self {
        Self { podman, tag: format!("localhost/{}", unique(LABEL)) }
    }

    /// A guest's disk, packaged by the utility.
    pub fn packaged(podman: Podman, disk: &Path) -> Self {
        let image = Self::named(podman);
        let mut command = podman.tool(source("util/package-vm-image.sh"));
        let output = command.arg(disk).arg(&image.tag).output().unwrap();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        image
    }

    /// Builds an image whose root is `context`, with further lines in its Containerfile.
    pub fn built(context: &Path, lines: &str, options: &[&str]) -> Self {
        Self::from_recipe(context, &format!("FROM scratch\nLABEL {LABEL}=1\nCOPY . /\n{lines}\n"), options)
    }

    /// Builds an image from a Containerfile.
    pub fn from_recipe(context: &Path, recipe: &str, options: &[&str]) -> Self {
        let (image, dir) = (Self::named(Podman::Rootful), directory());
        let file = dir.at("Containerfile");
        fs::write(&file, recipe).unwrap();
        // podman's cache would reuse the image of another build, annotations included, if only the copied files are
        // equal.
        let mut args = vec!["build", "-q", "--layers=false", "-t", &image.tag, "-f", &file];
        args.extend(options);
        args.push(context.to_str().unwrap());
        Podman::Rootful.ok(&args);
        image
    }

    /// An image with the content of `root`, devices and links included.
    pub fn imported(root: &Path) -> Self {
        let (image, dir) = (Self::named(Podman::Rootful), directory());
        let tar = dir.at("root.tar");
        run("tar", &["-C", root.to_str().unwrap(), "-cf", &tar, "."]);
        Podman::Rootful.ok(&["import", "-q", "--change", &format!("LABEL={LABEL}=1"), &tar, &image.tag]);
        image
    }

    /// `podman run` of the image; `what` is its tag.
    pub fn run<'a>(&self, form: Form, what: &'a [&'a str], options: &'a [&'a str]) -> Run<'a> {
        Run { podman: self.podman, form, podman_options: &[], what, options }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.podman.output(&["rmi", "-f", &self.tag]);
    }
}

/// A root with the tiny guest below `/disk/`.
pub fn with_tiny() -> Dir {
    let dir = directory();
    fs::create_dir(dir.join("disk")).unwrap();
    fs::copy(guest("tiny"), dir.join("disk/disk.qcow2")).unwrap();
    dir
}
