//! What a guest is told on its first boot: cloud-init, Ignition and systemd credentials. Pure documents.
