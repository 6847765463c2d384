//! Hostile images, volumes, pods and guests, and the administrator's policy.

mod hostile_images;
mod leaks;
mod policy;
mod privileges;
mod selinux;
