//! Pure analysis of hopgap records: outages, loss, latency, paths.
