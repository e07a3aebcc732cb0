//! Ingests, stores, analyses and reports what hopgap agents measured.

fn main() {}
