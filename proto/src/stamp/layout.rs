//! The offset of each field: RFC 8762 sections 4.2 and 4.3, with the SSID of RFC 8972
//! section 3. All integers are big-endian; Sequence is always at 0.

/// Size of an unauthenticated base packet, of sender and reflector alike.
pub const OPEN_LEN: usize = 44;
/// Size of an authenticated base packet, of sender and reflector alike.
pub const AUTHENTICATED_LEN: usize = 112;
/// Size of the smallest reply of TWAMP Light, which ends with the sender's Error Estimate. A
/// reply to a smaller request would lack needed fields.
pub const COMPATIBLE_LEN: usize = 38;
/// Octets covered by the HMAC of an authenticated packet, which follows them.
pub(super) const HMAC_COVERS: usize = 96;
/// The reflector's copy of the sender's TTL, in an unauthenticated packet.
pub(super) const OPEN_SENDER_TTL: usize = 40;

pub(super) struct SenderLayout {
    pub(super) len: usize,
    pub(super) timestamp: usize,
    pub(super) error_estimate: usize,
    pub(super) ssid: usize,
}

impl SenderLayout {
    pub(super) const fn of(authenticated: bool) -> &'static Self {
        if authenticated {
            &Self {
                len: AUTHENTICATED_LEN,
                timestamp: 16,
                error_estimate: 24,
                ssid: 26,
            }
        } else {
            &Self {
                len: OPEN_LEN,
                timestamp: 4,
                error_estimate: 12,
                ssid: 14,
            }
        }
    }
}

/// The fields that a reply adds to those of [`SenderLayout`].
pub(super) struct ReflectorLayout {
    pub(super) receive_timestamp: usize,
    pub(super) sender_sequence: usize,
    pub(super) sender_timestamp: usize,
    pub(super) sender_error_estimate: usize,
    pub(super) sender_ttl: usize,
}

impl ReflectorLayout {
    pub(super) const fn of(authenticated: bool) -> &'static Self {
        if authenticated {
            &Self {
                receive_timestamp: 32,
                sender_sequence: 48,
                sender_timestamp: 64,
                sender_error_estimate: 72,
                sender_ttl: 80,
            }
        } else {
            &Self {
                receive_timestamp: 16,
                sender_sequence: 24,
                sender_timestamp: 28,
                sender_error_estimate: 36,
                sender_ttl: OPEN_SENDER_TTL,
            }
        }
    }
}

// The readers below take offsets from the tables above, in slices whose length was checked
// against `len`. Beyond the slice they read zero, like a field that must be zero.

pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array_at(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, at))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array_at(bytes, at))
}

/// Writes `value` at `at`, where there is room for it.
pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = value;
    }
}
