//! Benchmarks of hopgap, as ratios in one run.
