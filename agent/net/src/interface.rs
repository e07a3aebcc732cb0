//! Network interfaces by their names.

use crate::error::NetError;
use crate::sys;

/// The index by which the kernel knows the interface `name`, in the calling thread's network
/// namespace: the zone of link-local addresses (RFC 4007 section 11).
///
/// # Errors
/// [`NetError::NoInterface`].
pub fn index_of(name: &str) -> Result<u32, NetError> {
    sys::interface_index(name).map_err(|_| NetError::NoInterface {
        interface: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::index_of;

    #[test]
    fn an_interface_is_found_by_its_name_and_no_other_is() {
        assert!(index_of("lo").unwrap() > 0);
        for none in ["", "no-such", "l\0o"] {
            let error = index_of(none).unwrap_err().to_string();
            assert!(error.contains("no network interface is named"), "{error}");
        }
    }
}
