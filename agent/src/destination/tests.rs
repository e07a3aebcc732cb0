use super::{Wanted, literal, resolve, source_towards};
use crate::cli::FamilyArgs;

const ANY: FamilyArgs = FamilyArgs {
    v4: false,
    v6: false,
};
const V4: FamilyArgs = FamilyArgs {
    v4: true,
    v6: false,
};
const V6: FamilyArgs = FamilyArgs {
    v4: false,
    v6: true,
};

fn found(host: &str, source: Option<&str>, family: FamilyArgs) -> Result<String, String> {
    let wanted = Wanted {
        host,
        source: source.map(|s| s.parse().unwrap()),
        family,
    };
    match resolve(wanted) {
        Ok((first, _)) => Ok(first.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn plain(host: &str) -> String {
    found(host, None, ANY).unwrap()
}

#[test]
fn addresses_with_and_without_port() {
    assert_eq!(plain("10.17.11.132"), "10.17.11.132:862");
    assert_eq!(plain("10.17.11.132:8620"), "10.17.11.132:8620");
    assert_eq!(plain("::1"), "[::1]:862");
    assert_eq!(plain("[::1]"), "[::1]:862");
    assert_eq!(plain("[::1]:5"), "[::1]:5");
}

#[test]
fn a_mapped_address_is_the_ipv4_address_in_it() {
    assert_eq!(plain("::ffff:10.0.0.1"), "10.0.0.1:862");
    assert_eq!(plain("[::ffff:10.0.0.1]:5"), "10.0.0.1:5");
    assert_eq!(
        found("10.0.0.1", Some("::ffff:10.0.0.2"), V4),
        Ok("10.0.0.1:862".to_owned())
    );
}

#[test]
fn families_must_agree() {
    let error = found("::1", Some("127.0.0.1"), ANY).unwrap_err();
    assert!(
        error.contains("no address of the family of 127.0.0.1"),
        "{error}"
    );
    for (host, family, said) in [
        ("::1", V4, "has no IPv4 address; leave out -4"),
        ("10.0.0.1", V6, "has no IPv6 address; leave out -6"),
    ] {
        let error = found(host, None, family).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    // An unspecified source selects only its family.
    assert!(found("10.0.0.1", Some("0.0.0.0"), ANY).is_ok());
    assert!(found("10.0.0.1", Some("::"), ANY).is_err());
}

#[test]
fn a_link_local_address_needs_its_interface() {
    let zoned = |host| literal(host).map(|a| a.map(|a| a.to_string()));
    assert_eq!(zoned("fe80::1%7").unwrap().unwrap(), "[fe80::1%7]:862");
    assert_eq!(zoned("[fe80::1%7]:99").unwrap().unwrap(), "[fe80::1%7]:99");
    let by_name = zoned("fe80::1%lo").unwrap().unwrap();
    assert_eq!(by_name, zoned("fe80::1%1").unwrap().unwrap());
    for (bad, said) in [
        ("fe80::1", "write the interface, too, such as fe80::1%eth0"),
        ("[fe80::1]:862", "write the interface, too"),
        ("fe80::1%", "no network interface is named"),
        ("fe80::1%no-such", "no network interface is named no-such"),
        ("fd00::1%lo", "leave out the `%`"),
        ("10.0.0.1%lo", "leave out the `%`"),
    ] {
        let error = found(bad, None, ANY).unwrap_err();
        assert!(error.contains(said), "{bad}: {error}");
    }
    // Anything that is not an address is a name.
    for name in ["server", "server:8620", "fe80", "[x]:862"] {
        assert_eq!(literal(name).unwrap(), None, "{name}");
    }
}

#[test]
fn loopback_is_reached_from_loopback() {
    let source = source_towards("127.0.0.1:862".parse().unwrap()).unwrap();
    assert_eq!(source.to_string(), "127.0.0.1");
}
