//! The board image: a model laid out to be read in place from flash.
//!
//! All numbers are little endian. Offsets count bytes from the image's first byte, which is to be
//! placed at an address that is a multiple of 16. Version 1:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 4 | magic `EPBI` |
//! | 4 | 2 | format version, 1 |
//! | 6 | 2 | header length, 128 |
//! | 8 | 8 | total length of the image |
//! | 16 | 4 | CRC-32 (ISO-HDLC, as in zlib) of the bytes from 128 to the total length |
//! | 20 | 4 | number of tensors |
//! | 24 | 32 | `dim, hidden, layers, heads, kv_heads, head_dim, vocab, train_ctx`, a u32 each |
//! | 56 | 8 | `rope_theta, norm_eps`, an f32 each |
//! | 64 | 4 | flags: bit 0 tied classifier; the rest 0 |
//! | 68 | 56 | 0 |
//! | 124 | 4 | CRC-32 of bytes 0 to 123 |
//! | 128 | 32 × tensors | tensor table |
//! | … | | data of the tensors in the table's order, each region starting at a multiple of 16 |
//!
//! A table entry:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 1 | role, a [`Role`] |
//! | 1 | 1 | format, a [`DType`] |
//! | 2 | 2 | 0 |
//! | 4 | 4 | layer, or 0xffff_ffff for what belongs to no layer |
//! | 8 | 8 | rows, columns (a norm is one row) |
//! | 16 | 8 | offset of the values |
//! | 24 | 8 | offset of the scales; 0 if the format has none |
//!
//! The order is fixed: token embedding; for each layer attention norm, Q, K, V, attention output,
//! feed-forward norm, gate, up, down; output norm; and the classifier unless it is tied. Shapes
//! follow from the configuration, offsets from the formats: a reader accepts no others. Bytes
//! between regions are 0.
//!
//! **Values** are stored row after row; a row's length is rounded up to a multiple of 8 bytes, the
//! padding being 0:
//!
//! - `F32`, `F16`: IEEE values. Norms are always `F32`.
//! - `BF16`: the upper halves of IEEE binary32 values.
//! - `Q8_0`: one byte a value. With q in -128..=127 a byte in an *odd* column is q in two's
//!   complement, a byte in an *even* column is q + 128. That offset lets a kernel use both halves
//!   of a 16-bit lane with a single unpacking instruction (see `kernels`).
//! - `Q4_0`: two values a byte, the even column in the low nibble; a nibble n means n - 8.
//! - `Q4_1`: two values a byte, the even column in the low nibble; a nibble n means n.
//!
//! **Scales** (quantized formats) are f16, row after row, one for each group of 32 columns (the
//! last group of a row may be shorter), and an f16 of 0 after an odd number of groups, so that rows
//! begin at multiples of 4 bytes. A weight's value is its q times its group's scale, as in ggml. In
//! `Q4_1` each scale is followed by its group's minimum, an f16 too, which is added to that.
//!
//! Which rows and columns: a matrix maps a vector of `cols` values to one of `rows`. Rotary
//! embedding turns neighbours (2i, 2i+1), as GGUF's llama architecture and llama2.c store them.

use crate::config::Config;
use crate::dtype::{DType, GROUP};
use crate::error::ImageError;
use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};

pub use crate::image::plan::{Plan, Role, TensorPlan, layout, table_len, total_len};

mod plan;

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"EPBI";
/// The version this module reads and writes.
pub const VERSION: u16 = 1;
/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 128;
/// Bytes of a tensor table entry.
pub const ENTRY_LEN: usize = 32;
/// Regions start at multiples of this many bytes.
pub const ALIGN: u64 = 16;
/// What an image's address must be a multiple of at least, so that kernels can load words.
const BASE_ALIGN: usize = if cfg!(target_arch = "riscv64") { 8 } else { 4 };
/// The layer number of tensors that belong to none.
pub const NO_LAYER: u32 = u32::MAX;

static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// CRC-32 as the image uses it, of bytes that come piece by piece.
#[must_use]
pub fn crc32_digest() -> Digest<'static, u32, Table<1>> {
    CRC.digest()
}

/// CRC-32 as the image uses it.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

/// Writes header and tensor table to the start of `buf`; `buf` needs [`table_len`] bytes at least.
/// The checksums are left 0 until [`seal`] or [`seal_header`] fills them in.
///
/// # Errors
/// [`ImageError::Config`] for an invalid configuration, [`ImageError::Tensor`] when `dtype_of`
/// gives a norm another format than `F32`, [`ImageError::Buffer`] if `buf` is too small.
pub fn write_header(
    buf: &mut [u8],
    config: &Config,
    dtype_of: impl Fn(Role, u32) -> DType,
) -> Result<(), ImageError> {
    config.validate()?;
    let head = table_len(config);
    if (buf.len() as u64) < head {
        return Err(ImageError::Buffer(head));
    }
    let mut plan = layout(config, dtype_of);
    let mut count = 0u32;
    for t in plan.by_ref() {
        if t.role.is_norm() && t.dtype != DType::F32 {
            return Err(ImageError::Tensor(count));
        }
        let at = HEADER_LEN + count as usize * ENTRY_LEN;
        let e = &mut buf[at..at + ENTRY_LEN];
        e.fill(0);
        e[0] = t.role as u8;
        e[1] = t.dtype as u8;
        e[4..8].copy_from_slice(&t.layer.to_le_bytes());
        e[8..12].copy_from_slice(&t.rows.to_le_bytes());
        e[12..16].copy_from_slice(&t.cols.to_le_bytes());
        e[16..24].copy_from_slice(&t.offset.to_le_bytes());
        e[24..32].copy_from_slice(&t.scale_offset.to_le_bytes());
        count += 1;
    }
    let total = plan.end();
    let h = &mut buf[..HEADER_LEN];
    h.fill(0);
    h[..4].copy_from_slice(&MAGIC);
    h[4..6].copy_from_slice(&VERSION.to_le_bytes());
    h[6..8].copy_from_slice(&(HEADER_LEN as u16).to_le_bytes());
    h[8..16].copy_from_slice(&total.to_le_bytes());
    h[20..24].copy_from_slice(&count.to_le_bytes());
    let dims = [
        config.dim,
        config.hidden,
        config.layers,
        config.heads,
        config.kv_heads,
        config.head_dim,
        config.vocab,
        config.train_ctx,
        config.rope_theta.to_bits(),
        config.norm_eps.to_bits(),
        u32::from(config.tied),
    ];
    for (i, v) in dims.iter().enumerate() {
        h[24 + 4 * i..28 + 4 * i].copy_from_slice(&v.to_le_bytes());
    }
    Ok(())
}

/// Puts the payload's checksum and the header's own into a header that [`write_header`] made. For
/// writers that stream; `payload_crc` is [`crc32`] of everything after the header.
///
/// # Errors
/// [`ImageError::Buffer`] if `header` is shorter than [`HEADER_LEN`].
pub fn seal_header(header: &mut [u8], payload_crc: u32) -> Result<(), ImageError> {
    let Some(h) = header.get_mut(..HEADER_LEN) else {
        return Err(ImageError::Buffer(HEADER_LEN as u64));
    };
    h[16..20].copy_from_slice(&payload_crc.to_le_bytes());
    let own = crc32(&h[..124]);
    h[124..].copy_from_slice(&own.to_le_bytes());
    Ok(())
}

/// Completes a whole image in memory: computes and stores both checksums.
///
/// # Errors
/// [`ImageError::Buffer`] if `image` is shorter than a header.
pub fn seal(image: &mut [u8]) -> Result<(), ImageError> {
    let Some(payload) = image.get(HEADER_LEN..) else {
        return Err(ImageError::Buffer(HEADER_LEN as u64));
    };
    let crc = crc32(payload);
    seal_header(image, crc)
}

/// A board image whose header and tensor table are known to be sound.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    bytes: &'a [u8],
    config: Config,
    tensors: u32,
}

impl<'a> Image<'a> {
    /// Reads header and table from the start of `bytes` (more may follow). Checks everything that
    /// later reads rely on, but not the payload's checksum, which takes a pass over all weights:
    /// see [`Image::verify_checksum`]. Never panics, whatever the bytes.
    ///
    /// # Errors
    /// Any [`ImageError`] but `PayloadChecksum` and `Buffer`.
    pub fn parse(bytes: &'a [u8]) -> Result<Image<'a>, ImageError> {
        let truncated = |needed: u64| ImageError::Truncated { needed, have: bytes.len() as u64 };
        if bytes.len() < HEADER_LEN {
            return Err(truncated(HEADER_LEN as u64));
        }
        if !bytes.as_ptr().addr().is_multiple_of(BASE_ALIGN) {
            return Err(ImageError::Misaligned);
        }
        if bytes[..4] != MAGIC {
            return Err(ImageError::Magic);
        }
        let version = u16_at(bytes, 4);
        if version != VERSION {
            return Err(ImageError::Version(version));
        }
        if u32_at(bytes, 124) != crc32(&bytes[..124]) || u16_at(bytes, 6) as usize != HEADER_LEN {
            return Err(ImageError::HeaderChecksum);
        }
        let dim = |i: usize| u32_at(bytes, 24 + 4 * i);
        let config = Config {
            dim: dim(0),
            hidden: dim(1),
            layers: dim(2),
            heads: dim(3),
            kv_heads: dim(4),
            head_dim: dim(5),
            vocab: dim(6),
            train_ctx: dim(7),
            rope_theta: f32::from_bits(dim(8)),
            norm_eps: f32::from_bits(dim(9)),
            tied: dim(10) == 1,
        };
        if dim(10) > 1 {
            return Err(ImageError::Config("flags"));
        }
        config.validate()?;
        let table = table_len(&config);
        if (bytes.len() as u64) < table {
            return Err(truncated(table));
        }
        let tensors = plan::tensor_count(&config);
        if u32_at(bytes, 20) != tensors {
            return Err(ImageError::Tensor(tensors));
        }
        let image = Image { bytes, config, tensors };
        // The table must be what the configuration and the formats in it lead to.
        let mut plan = Plan::new(&config);
        for i in 0..tensors {
            let at = HEADER_LEN + i as usize * ENTRY_LEN;
            let bad = ImageError::Tensor(i);
            let dtype = DType::try_from(bytes[at + 1]).map_err(|_| bad)?;
            let want = plan.place(dtype).ok_or(bad)?;
            let norm_ok = !want.role.is_norm() || dtype == DType::F32;
            if !norm_ok || u16_at(bytes, at + 2) != 0 || image.entry(i) != Some(want) {
                return Err(bad);
            }
        }
        let total = u64_at(bytes, 8);
        if total != plan.end() {
            return Err(ImageError::Tensor(tensors));
        }
        if (bytes.len() as u64) < total {
            return Err(truncated(total));
        }
        Ok(image)
    }

    /// Compares the payload's checksum: one pass over the whole image.
    ///
    /// # Errors
    /// [`ImageError::PayloadChecksum`].
    pub fn verify_checksum(&self) -> Result<(), ImageError> {
        let payload = &self.bytes[HEADER_LEN..self.total_len() as usize];
        if crc32(payload) == self.payload_crc() { Ok(()) } else { Err(ImageError::PayloadChecksum) }
    }

    /// The model's shape.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Length of the image in bytes.
    #[must_use]
    pub fn total_len(&self) -> u64 {
        u64_at(self.bytes, 8)
    }

    /// The payload's CRC-32 as the header states it.
    #[must_use]
    pub fn payload_crc(&self) -> u32 {
        u32_at(self.bytes, 16)
    }

    /// The tensors in stored order.
    pub fn tensors(&self) -> impl Iterator<Item = TensorPlan> + '_ {
        (0..self.tensors).filter_map(|i| self.entry(i))
    }

    fn entry(&self, i: u32) -> Option<TensorPlan> {
        let at = HEADER_LEN + i as usize * ENTRY_LEN;
        let b = self.bytes.get(at..at + ENTRY_LEN)?;
        Some(TensorPlan {
            role: Role::try_from(b[0]).ok()?,
            dtype: DType::try_from(b[1]).ok()?,
            layer: u32_at(b, 4),
            rows: u32_at(b, 8),
            cols: u32_at(b, 12),
            offset: u64_at(b, 16),
            scale_offset: u64_at(b, 24),
        })
    }

    /// The tensor of a role (and layer, ignored for roles outside layers), ready to be read.
    /// `Output` of a tied model is the embedding. `None` only for a layer that does not exist.
    #[must_use]
    pub fn tensor(&self, role: Role, layer: u32) -> Option<Tensor<'a>> {
        let p = self.entry(plan::index_of(&self.config, role, layer)?)?;
        let rows = p.rows as usize;
        let at = p.offset as usize;
        let stride = p.row_stride() as usize;
        let data = self.bytes.get(at..at + rows * stride)?;
        let scale_stride = p.scale_stride() as usize;
        let at = p.scale_offset as usize;
        let scales = self.bytes.get(at..at + rows * scale_stride)?;
        Some(Tensor { dtype: p.dtype, rows, cols: p.cols as usize, stride, scale_stride, data, scales })
    }
}

/// A weight matrix in place.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Format of the values.
    pub dtype: DType,
    /// Length of the result of a product.
    pub rows: usize,
    /// Length of the vector it multiplies.
    pub cols: usize,
    /// Bytes from row to row of `data`.
    pub stride: usize,
    /// Bytes from row to row of `scales`; 0 without scales.
    pub scale_stride: usize,
    /// The values, `rows * stride` bytes.
    pub data: &'a [u8],
    /// The scales, and minima if the format has them, `rows * scale_stride` bytes.
    pub scales: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// Groups of a row.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.cols.div_ceil(GROUP)
    }

    /// Bytes of one row's values.
    #[must_use]
    pub fn row(&self, r: usize) -> &'a [u8] {
        &self.data[r * self.stride..(r + 1) * self.stride]
    }

    /// Bytes of one row's scales.
    #[must_use]
    pub fn row_scales(&self, r: usize) -> &'a [u8] {
        &self.scales[r * self.scale_stride..(r + 1) * self.scale_stride]
    }

    /// The first row as f32 values, if that is its format (norms).
    #[must_use]
    pub fn as_f32(&self) -> &'a [f32] {
        debug_assert_eq!(self.dtype, DType::F32);
        crate::kernels::f32_slice(self.data, self.cols)
    }
}
