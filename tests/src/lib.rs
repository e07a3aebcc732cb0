//! End-to-end tests of hopgap.
