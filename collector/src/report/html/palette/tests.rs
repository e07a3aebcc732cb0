use super::Palette;
use crate::report::tests::fixture;

#[test]
fn a_path_has_the_same_colour_in_every_report_of_a_plan() {
    let plan = ["expressroute-primary", "expressroute-secondary", "vpn"];
    let classes = |mut findings: hopgap_analysis::findings::Findings| {
        findings.paths = plan.map(str::to_owned).into();
        let palette = Palette::new(&findings);
        (plan.map(|p| palette.class(Some(p))), palette.legend())
    };
    let (drill, told) = classes(fixture::drill());
    assert_eq!(drill, ["p0", "p1", "p2"]);
    assert!(!told.contains("expressroute-secondary"), "it did not occur");
    let (other, told) = classes(fixture::one_msee());
    assert_eq!(other, drill);
    assert!(!told.contains("vpn"), "it did not occur");
}

#[test]
fn a_path_that_the_plan_lacks_comes_after_its_own() {
    let mut findings = fixture::drill();
    findings.paths = vec!["elsewhere".to_owned()];
    let palette = Palette::new(&findings);
    assert_eq!(palette.class(Some("elsewhere")), "p0");
    assert_eq!(palette.class(Some("expressroute-primary")), "p1");
    assert_eq!(palette.class(None), "pu");
}
