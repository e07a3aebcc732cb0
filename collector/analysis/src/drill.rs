//! Changes of the network, seen over all sessions and flows together.
use crate::align::Session;
use crate::findings::{Marker, SessionFindings, Transition};
use crate::path::{Paths, SessionEpochs};
use hopgap_proto::plan::Objective;

/// All that transitions are found in.
pub(crate) struct Scene<'a> {
    pub(crate) sessions: &'a [Session<'a>],
    pub(crate) epochs: &'a [SessionEpochs],
    pub(crate) found: &'a [SessionFindings],
    pub(crate) markers: &'a [Marker],
    pub(crate) paths: Paths<'a>,
    pub(crate) objective: &'a Objective,
}
pub(crate) fn find(_: &Scene<'_>) -> Vec<Transition> {
    Vec::new()
}
