//! The sans-IO core of the hopgap agent: time and packets in, packets and records out.
