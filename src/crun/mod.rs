//! crun's structures: how they are laid out in the versions known, proved before anything is written.
