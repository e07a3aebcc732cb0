//! End-to-end tests of hopgap: the real programs, in networks made of namespaces.
//!
//! Each test runs in a world of its own, made by `unshare`: new network, mount and
//! process namespaces, and a user namespace where the tests do not run as root.
//! Nothing leaves it and nothing outlives it.
//!
//! ```text
//! cargo test -p hopgap-tests
//! ```
//!
//! needs Linux with `unshare`, `mount`, `setpriv` (util-linux), `ip` and `ss` (iproute2)
//! and `nft` (nftables), and builds hopgap's own programs. The first run also installs
//! [stamp-suite](https://crates.io/crates/stamp-suite), another implementation of STAMP
//! to measure against, under the build directory.
