//! Whether a JPEG file is whole.

/// Whether a JPEG stream reaches its end-of-image marker.
///
/// The decoder fills what a file lacks with grey and says nothing, where Pillow refuses ("image file is
/// truncated"): half an inspected part must not look like a whole one. Segments are stepped over by their length,
/// so that the end marker of a thumbnail inside one is not taken for the picture's; bytes after the end marker
/// (a second picture, a maker's data) are of no interest.
///
/// A stream whose entropy-coded data was damaged in the middle, or that some tool closed with an end marker after
/// cutting it, passes here as it does in libjpeg.
pub(super) fn reaches_end(bytes: &[u8]) -> bool {
    const START_OF_IMAGE: u8 = 0xD8;
    const END_OF_IMAGE: u8 = 0xD9;
    const START_OF_SCAN: u8 = 0xDA;
    let mut at = 2;
    let mut seen_scan = false;
    while let Some(marker_at) = next_marker(bytes, at) {
        match bytes[marker_at] {
            END_OF_IMAGE => return seen_scan,
            // Markers without a segment.
            START_OF_IMAGE | 0x01 | 0xD0..=0xD7 => at = marker_at + 1,
            marker => {
                seen_scan |= marker == START_OF_SCAN;
                let Some(&[high, low]) = bytes.get(marker_at + 1..marker_at + 3) else { return false };
                at = marker_at + 1 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
    }
    false
}

/// The position of the next marker's code at or after `at`: the byte behind an 0xFF that is neither another 0xFF
/// (fill) nor 0x00 (an 0xFF of the entropy-coded data).
fn next_marker(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xFF)? + 1;
        while *bytes.get(at)? == 0xFF {
            at += 1;
        }
        if bytes[at] != 0x00 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start of image, a comment that contains an end marker, a scan with a stuffed 0xFF and a restart.
    const WHOLE: &[u8] = &[
        0xFF, 0xD8, 0xFF, 0xFE, 0, 4, 0xFF, 0xD9, 0xFF, 0xDA, 0, 2, 7, 0xFF, 0x00, 0xFF, 0xD0, 9, 0xFF, 0xFF,
        0xD9,
    ];

    #[test]
    fn only_the_whole_stream_reaches_its_end() {
        assert!(reaches_end(WHOLE));
        assert!(reaches_end(&[WHOLE, b"trailing bytes"].concat()));
        for len in 0..WHOLE.len() {
            assert!(!reaches_end(&WHOLE[..len]), "{len} bytes");
        }
        assert!(!reaches_end(&[0xFF, 0xD8, 0xFF, 0xD9]), "an end without a scan shows nothing");
    }
}
