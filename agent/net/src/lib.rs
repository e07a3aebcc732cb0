//! Sockets and kernel timestamps of the hopgap agent.
