//! TIFF files.
//!
//! The `image` crate's reader refuses palettes, grey of 2 or 4 bits and grey with alpha, all of which cameras and
//! Pillow write. This one stands on the `tiff` crate directly.

use std::io::{Read, Seek, SeekFrom};

use ::tiff::decoder::{Decoder, DecodingResult, Limits};
use ::tiff::tags::{ByteOrder, Tag};
use ::tiff::{ColorType, TiffError};
use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer};

use super::decode::{Failure, check_size};

const BLACK_IS_ZERO: u16 = 1;
const PALETTE: u16 = 3;

/// Decodes the first image of a TIFF file: grey of 1, 2, 4, 8 or 16 bits, palettes, RGB of 8 or 16 bits, the last
/// two with or without further channels, in strips or tiles, chunky or planar. Its orientation tag is applied.
pub(super) fn decode<R: Read + Seek>(mut reader: R, max_pixels: u64) -> Result<DynamicImage, Failure> {
    let mut decoder = limited(Decoder::new(&mut reader).map_err(reason)?, max_pixels);
    check_size(decoder.dimensions().map_err(reason)?, max_pixels)?;
    let photometric: u16 = decoder.get_tag_unsigned(Tag::PhotometricInterpretation).map_err(reason)?;
    if photometric != PALETTE {
        return pixels(&mut decoder, None);
    }
    // The crate knows no palettes, but everything about strips, tiles and compression. So it is shown a copy of the
    // file in which the indices are declared to be grey values.
    let palette = palette(&decoder.get_tag_u16_vec(Tag::ColorMap).map_err(reason)?);
    let directory = decoder.ifd_pointer().map(|pointer| pointer.0);
    let byte_order = decoder.byte_order();
    drop(decoder);
    let mut bytes = Vec::new();
    reader.seek(SeekFrom::Start(0)).and_then(|_| reader.read_to_end(&mut bytes)).map_err(Failure::new)?;
    declare_grey(&mut bytes, directory, byte_order)
        .ok_or_else(|| Failure::new("its TIFF directory is damaged"))?;
    let decoder = Decoder::new(std::io::Cursor::new(bytes)).map_err(reason)?;
    pixels(&mut limited(decoder, max_pixels), Some(&palette))
}

fn limited<R: Read + Seek>(decoder: Decoder<R>, max_pixels: u64) -> Decoder<R> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = usize::try_from(max_pixels * 8).unwrap_or(usize::MAX);
    limits.intermediate_buffer_size = limits.decoding_buffer_size;
    limits.ifd_value_size = 64 << 20;
    decoder.with_limits(limits)
}

fn reason(error: TiffError) -> Failure {
    match error {
        TiffError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Failure::new("the file is cut short")
        }
        error => Failure::new(error),
    }
}

/// The colour of every index. A file stores all reds, then all greens, then all blues, in 16 bits: some writers
/// put an 8-bit value v there as 257 v, others (Pillow) as 256 v, so the high byte is v in either case.
fn palette(map: &[u16]) -> Vec<[u8; 3]> {
    let len = map.len() / 3;
    let high = |index: usize| (map[index] >> 8) as u8;
    (0..len).map(|index| [high(index), high(len + index), high(2 * len + index)]).collect()
}

/// Sets the photometric interpretation in the directory at `offset` to grey; `None` where there is no such entry.
fn declare_grey(bytes: &mut [u8], offset: Option<u64>, order: ByteOrder) -> Option<()> {
    const BIG_TIFF: u16 = 43;
    let word = |at: usize| {
        let pair = [*bytes.get(at)?, *bytes.get(at + 1)?];
        Some(match order {
            ByteOrder::LittleEndian => u16::from_le_bytes(pair),
            ByteOrder::BigEndian => u16::from_be_bytes(pair),
        })
    };
    // (bytes of the entry count, of an entry, and from an entry's start to its value)
    let (count, entry, value) = if word(2)? == BIG_TIFF { (8, 20, 12) } else { (2, 12, 8) };
    let mut at = usize::try_from(offset?).ok()?.checked_add(count)?;
    while word(at)? != Tag::PhotometricInterpretation.to_u16() {
        at += entry;
    }
    let grey = match order {
        ByteOrder::LittleEndian => BLACK_IS_ZERO.to_le_bytes(),
        ByteOrder::BigEndian => BLACK_IS_ZERO.to_be_bytes(),
    };
    bytes.get_mut(at + value..at + value + 2)?.copy_from_slice(&grey);
    Some(())
}

fn pixels<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    palette: Option<&[[u8; 3]]>,
) -> Result<DynamicImage, Failure> {
    let (width, height) = decoder.dimensions().map_err(reason)?;
    let colour = decoder.colortype().map_err(reason)?;
    let unsupported = || Failure::new(format_args!("{colour:?} samples in a TIFF file are not supported"));
    let orientation = decoder
        .find_tag_unsigned::<u8>(Tag::Orientation)
        .ok()
        .flatten()
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms);

    // Channels in the file, and whether the first three are colours (or the first one grey).
    let (stored, is_rgb) = match colour {
        ColorType::Gray(1 | 2 | 4 | 8 | 16) => (1, false),
        ColorType::Multiband { bit_depth: 8 | 16, num_samples } => (usize::from(num_samples), false),
        ColorType::RGB(8 | 16) => (3, true),
        ColorType::RGBA(8 | 16) => (4, true),
        _ => return Err(unsupported()),
    };
    let mut samples = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut samples).map_err(reason)?;
    if samples.as_buffer(0).byte_len() < layout.complete_len {
        return Err(Failure::new("its planes are larger than the memory allowed for them"));
    }
    let planar = layout.planes > 1;
    let mut image = match samples {
        DecodingResult::U8(packed) => {
            let samples = unpack(packed, colour, width as usize, palette.is_none());
            if let Some(palette) = palette {
                // An index past the palette's end is black, as in Pillow.
                let colours = |&index: &u8| palette.get(usize::from(index)).copied().unwrap_or_default();
                let colours = samples.iter().step_by(stored).flat_map(colours).collect();
                ImageBuffer::from_raw(width, height, colours).map(DynamicImage::ImageRgb8)
            } else if is_rgb {
                ImageBuffer::from_raw(width, height, pick::<_, 3>(samples, stored, planar))
                    .map(DynamicImage::ImageRgb8)
            } else {
                ImageBuffer::from_raw(width, height, pick::<_, 1>(samples, stored, planar))
                    .map(DynamicImage::ImageLuma8)
            }
        }
        DecodingResult::U16(samples) if palette.is_none() => {
            if is_rgb {
                ImageBuffer::from_raw(width, height, pick::<_, 3>(samples, stored, planar))
                    .map(DynamicImage::ImageRgb16)
            } else {
                ImageBuffer::from_raw(width, height, pick::<_, 1>(samples, stored, planar))
                    .map(DynamicImage::ImageLuma16)
            }
        }
        _ => return Err(unsupported()),
    }
    .ok_or_else(|| Failure::new("it holds fewer pixels than it says"))?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Samples of 1, 2 or 4 bits, rows padded to whole bytes, to one byte each: stretched to 0…255, or the bare number.
fn unpack(packed: Vec<u8>, colour: ColorType, width: usize, stretch: bool) -> Vec<u8> {
    let ColorType::Gray(bits @ (1 | 2 | 4)) = colour else { return packed };
    let (per_byte, largest) = (8 / usize::from(bits), (1u8 << bits) - 1);
    let factor = if stretch { 255 / largest } else { 1 };
    let mut samples = Vec::with_capacity(packed.len() * per_byte);
    for row in packed.chunks_exact(width.div_ceil(per_byte)) {
        samples.extend((0..width).map(|x| {
            let shift = 8 - usize::from(bits) * (x % per_byte + 1);
            ((row[x / per_byte] >> shift) & largest) * factor
        }));
    }
    samples
}

/// The first `KEEP` of `stored` channels, chunky.
fn pick<T: Copy, const KEEP: usize>(samples: Vec<T>, stored: usize, planar: bool) -> Vec<T> {
    if planar {
        let plane = samples.len() / stored;
        return (0..plane)
            .flat_map(|i| std::array::from_fn::<T, KEEP, _>(|c| samples[c * plane + i]))
            .collect();
    }
    if stored == KEEP {
        return samples;
    }
    samples.chunks_exact(stored).flat_map(|pixel| pixel[..KEEP].iter().copied()).collect()
}
