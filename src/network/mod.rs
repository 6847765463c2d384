//! The guest's network: a tap in the container's namespace, the kernel's NAT, and the answer to DHCP.
