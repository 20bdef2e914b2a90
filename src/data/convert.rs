//! Pixels of any decoded type to 8 bits.

use image::{DynamicImage, GrayImage, ImageBuffer, Pixel, RgbImage};

/// `round(v / 257)`: 257 is odd, so no quotient lies half-way.
fn to_8_bit(value: u16) -> u8 {
    ((u32::from(value) + 128) / 257) as u8
}

/// 8-bit RGB: grey is replicated, alpha dropped, 16 bits rounded.
pub(super) fn into_rgb(image: DynamicImage) -> RgbImage {
    match image {
        DynamicImage::ImageRgb8(image) => image,
        DynamicImage::ImageLuma8(image) => map(&image, |[l]| [l; 3]),
        DynamicImage::ImageLumaA8(image) => map(&image, |[l, _]| [l; 3]),
        DynamicImage::ImageRgba8(image) => map(&image, |[r, g, b, _]| [r, g, b]),
        DynamicImage::ImageLuma16(image) => map(&image, |[l]: [u16; 1]| [to_8_bit(l); 3]),
        DynamicImage::ImageLumaA16(image) => map(&image, |[l, _]: [u16; 2]| [to_8_bit(l); 3]),
        DynamicImage::ImageRgb16(image) => map(&image, |rgb: [u16; 3]| rgb.map(to_8_bit)),
        DynamicImage::ImageRgba16(image) => map(&image, |[r, g, b, _]: [u16; 4]| [r, g, b].map(to_8_bit)),
        // No decoder in use gives anything else.
        other => other.into_rgb8(),
    }
}

/// 8-bit grey as Pillow's `convert("L")`: `(19595 R + 38470 G + 7471 B + 2¹⁵) / 2¹⁶`.
pub(super) fn into_grey(image: DynamicImage) -> GrayImage {
    match image {
        DynamicImage::ImageLuma8(image) => image,
        DynamicImage::ImageLumaA8(image) => map(&image, |[l, _]| [l]),
        DynamicImage::ImageLuma16(image) => map(&image, |[l]: [u16; 1]| [to_8_bit(l)]),
        DynamicImage::ImageLumaA16(image) => map(&image, |[l, _]: [u16; 2]| [to_8_bit(l)]),
        colour => map(&into_rgb(colour), |[r, g, b]: [u8; 3]| {
            [((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8]
        }),
    }
}

/// Converts pixel by pixel.
fn map<P, Q, const N: usize, const M: usize>(
    image: &ImageBuffer<P, Vec<P::Subpixel>>,
    convert: impl Fn([P::Subpixel; N]) -> [u8; M],
) -> ImageBuffer<Q, Vec<u8>>
where
    P: Pixel,
    Q: Pixel<Subpixel = u8>,
{
    let mut out = ImageBuffer::new(image.width(), image.height());
    let (pixels, _) = image.as_raw().as_chunks::<N>();
    let (converted, _) = out.as_chunks_mut::<M>();
    for (to, &from) in converted.iter_mut().zip(pixels) {
        *to = convert(from);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_are_rounded() {
        for value in 0..=u16::MAX {
            assert_eq!(f64::from(to_8_bit(value)), (f64::from(value) / 257.0).round());
        }
    }
}
