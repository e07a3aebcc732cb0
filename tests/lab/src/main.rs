//! The topology of the failover article in network namespaces, its faults, and the truth.

fn main() {}
