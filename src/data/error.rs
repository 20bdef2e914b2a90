//! What can be wrong with a user's images, masks and folders.

use std::path::PathBuf;

/// Why an image, a mask or a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file could not be opened.
    #[error("cannot open {}: {source}; check that the file exists and is readable", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A file holds no image that can be decoded in full.
    #[error("cannot decode {}: {reason}; replace the file by a whole PNG, JPEG, BMP or TIFF image or leave it out", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },
    /// An image with more than [`crate::data::MAX_PIXELS`] pixels.
    #[error("{} has {width}x{height} pixels, more than the {} megapixels this program decodes; scale it down or cut it into tiles", path.display(), limit / 1_000_000)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// The most pixels allowed.
        limit: u64,
    },
    /// A mask whose size is not its image's.
    #[error("mask {} is {}x{} but its image is {}x{}; a mask must have the size of its image", path.display(), mask.0, mask.1, image.0, image.1)]
    MaskSize {
        /// The mask's file.
        path: PathBuf,
        /// Width and height of the mask.
        mask: (u32, u32),
        /// Width and height of the image, after its EXIF orientation was applied (or not) as asked for.
        image: (u32, u32),
    },
    /// A mask of a defective image on which nothing is marked.
    #[error("mask {} marks no pixel, all of it is black; mark the defect in white or as a label, or take the mask away", path.display())]
    MaskEmpty {
        /// The mask's file.
        path: PathBuf,
    },
    /// A resize target smaller than the crop, or a crop of no pixels.
    #[error(
        "cannot crop {crop} pixels from images resized to {resize}; the crop must be at least 1 and at most the resize"
    )]
    Preprocess {
        /// The shorter side after resizing.
        resize: u32,
        /// The side of the network's input.
        crop: u32,
    },
    /// A path that does not exist.
    #[error("there is no file or folder {}; check the path", path.display())]
    MissingFolder {
        /// The path asked for.
        path: PathBuf,
    },
    /// A file where a folder is needed.
    #[error("{} is a file; give the folder that holds the images", path.display())]
    NotAFolder {
        /// The path asked for.
        path: PathBuf,
    },
    /// A folder that could not be listed.
    #[error("cannot list folder {}: {source}; check its permissions", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A category or folder without a single good image to learn from.
    #[error("no good images in {}: looked for PNG, JPEG, BMP or TIFF files in {looked_for}; put images of good parts there", folder.display())]
    NoGoodImages {
        /// The category's folder.
        folder: PathBuf,
        /// The places that were tried.
        looked_for: String,
    },
    /// A folder that was to hold images and holds none.
    #[error("no PNG, JPEG, BMP or TIFF image in {}; check the path{}", folder.display(), if *.recursive { "" } else { ", images in its subfolders are not read" })]
    NoImages {
        /// The folder.
        folder: PathBuf,
        /// Whether its subfolders were searched too.
        recursive: bool,
    },
    /// A category that the data set does not have.
    #[error("{} has no category \"{name}\"{}; it has: {available}", root.display(), suggestion.as_ref().map(|name| format!(", did you mean \"{name}\"?")).unwrap_or_default())]
    UnknownCategory {
        /// The data set.
        root: PathBuf,
        /// The name asked for.
        name: String,
        /// The nearest name there is, when it is near enough to be meant.
        suggestion: Option<String>,
        /// All names there are.
        available: String,
    },
    /// A folder in no layout that is understood.
    #[error("{} holds no category; expected one of these trees:\n{expected}\nfound:\n{found}", root.display())]
    NoCategory {
        /// The folder.
        root: PathBuf,
        /// The layouts that are understood, drawn.
        expected: String,
        /// What the folder holds, drawn, shortened.
        found: String,
    },
    /// CIFAR-10's binary version, in part or damaged.
    #[error(
        "{} cannot be used: {reason}; get the \"CIFAR-10 binary version\" (cifar-10-binary.tar.gz) from \
         https://www.cs.toronto.edu/~kriz/cifar.html and unpack it again", path.display()
    )]
    Cifar10 {
        /// The file, or the folder it is missing in.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Classes where categories with good and defective images were expected.
    #[error(
        "{} holds CIFAR-10, whose classes are learned one by one; add --one-class", root.display()
    )]
    OnlyClasses {
        /// The folder.
        root: PathBuf,
    },
    /// A folder without classes, where each was to be learned on its own.
    #[error("{} holds no classes to learn one by one; expected one of these trees:\n{expected}\nfound:\n{found}", root.display())]
    NoClasses {
        /// The folder.
        root: PathBuf,
        /// The layouts that are understood, drawn.
        expected: String,
        /// What the folder holds, drawn, shortened.
        found: String,
    },
    /// The operating system refused a thread.
    #[error("cannot start an image-loading thread: {source}; raise the limit on threads or lower --threads")]
    Thread {
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
}
