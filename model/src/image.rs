//! Models made into board images: see [`edgeprof_engine::image`] for the format.

use edgeprof_engine::DType;
use edgeprof_engine::dtype::GROUP;
use edgeprof_engine::image::{Role, TensorPlan, layout, seal, total_len, write_header};

use crate::header::Header;
use crate::quant::{self, Group};
use crate::rows;
use crate::weights::Tensor;
use crate::{Model, ModelError, Quant};

/// The format that each tensor of `header`'s model has in an image.
fn dtypes(header: &Header, quant: Quant) -> Vec<DType> {
    header
        .tensors()
        .iter()
        .map(|t| if t.role.is_norm() { DType::F32 } else { quant.target(t.dtype) })
        .collect()
}

/// Gives the engine's planner the formats in the order of its calls, which is the table's.
fn in_order(dtypes: &[DType]) -> impl Fn(Role, u32) -> DType + '_ {
    let next = std::cell::Cell::new(0);
    move |_, _| {
        let i = next.get();
        next.set(i + 1);
        dtypes.get(i).copied().unwrap_or(DType::F32)
    }
}

/// Length in bytes of the image that [`build_image`] makes; from the header alone.
#[must_use]
pub fn image_bytes(header: &Header, quant: Quant) -> u64 {
    total_len(header.config(), in_order(&dtypes(header, quant)))
}

/// Bytes of values and scales in that image, without table and padding between tensors.
#[must_use]
pub fn image_weight_bytes(header: &Header, quant: Quant) -> u64 {
    let dtypes = dtypes(header, quant);
    layout(header.config(), in_order(&dtypes)).map(|t| t.bytes()).sum()
}

/// The quantization of an image's matrices for a run record: `q8_0`, or `f16+q8_0` where there are
/// several, ordered by name.
#[must_use]
pub fn image_quant_name(header: &Header, quant: Quant) -> String {
    let mut names: Vec<_> = dtypes(header, quant)
        .iter()
        .zip(header.tensors())
        .filter(|(_, t)| !t.role.is_norm())
        .map(|(d, _)| d.name())
        .collect();
    names.sort_unstable();
    names.dedup();
    names.join("+")
}

/// Makes the board image of a model. The same model and quantization give the same bytes always.
///
/// # Errors
/// [`ModelError::Invalid`] when weights that are to be quantized are not finite or too large for an
/// f16 scale, [`ModelError::TooLarge`] when the image does not fit this machine's memory.
pub fn build_image(model: &Model, quant: Quant) -> Result<Vec<u8>, ModelError> {
    let header = model.header();
    let config = header.config();
    let dtypes = dtypes(header, quant);
    let len = image_bytes(header, quant);
    let mut image = Vec::new();
    let fits = usize::try_from(len).ok().filter(|&n| image.try_reserve_exact(n).is_ok());
    let Some(size) = fits else {
        return Err(ModelError::TooLarge { what: "the board image".into(), limit: len });
    };
    image.resize(size, 0);
    let refused = |e: edgeprof_engine::ImageError| ModelError::Engine { what: e.to_string() };
    write_header(&mut image, config, in_order(&dtypes)).map_err(refused)?;
    let plans = layout(config, in_order(&dtypes));
    for (plan, tensor) in plans.zip(header.tensors()) {
        write_tensor(&mut image, &plan, tensor, model.bytes())?;
    }
    seal(&mut image).map_err(refused)?;
    Ok(image)
}

fn write_tensor(image: &mut [u8], plan: &TensorPlan, tensor: &Tensor, file: &[u8]) -> Result<(), ModelError> {
    let source = tensor.slice(file)?;
    let source_row = source.len() / tensor.rows as usize;
    let stride = plan.row_stride() as usize;
    let scale_stride = plan.scale_stride() as usize;
    let (data, scales) = regions(image, plan);
    let mut row = vec![0.0; tensor.cols as usize];
    for r in 0..tensor.rows as usize {
        let from = &source[r * source_row..][..source_row];
        let to = &mut data[r * stride..][..stride];
        match (plan.dtype, tensor.dtype) {
            (DType::F32, DType::F32) | (DType::F16, DType::F16) | (DType::BF16, DType::BF16) => {
                to[..from.len()].copy_from_slice(from);
            }
            // Norms, in whatever format the file has them.
            (DType::F32, dtype) => {
                rows::to_f32(dtype, from, &mut row);
                for (to, x) in to.chunks_exact_mut(4).zip(&row) {
                    to.copy_from_slice(&x.to_le_bytes());
                }
            }
            (dtype @ (DType::Q8_0 | DType::Q4_0), native) => {
                let scales = &mut scales[r * scale_stride..][..scale_stride];
                if dtype == native {
                    pack_row(dtype, rows::groups(dtype, from).map(Some), to, scales, row.len())
                } else {
                    rows::to_f32(native, from, &mut row);
                    let quantize = if dtype == DType::Q8_0 { quant::q8_0 } else { quant::q4_0 };
                    pack_row(dtype, row.chunks(GROUP).map(quantize), to, scales, row.len())
                }
                .ok_or_else(|| not_finite(tensor))?;
            }
            (DType::Q4_1, DType::Q4_1) => {
                pack_with_minima(from, to, &mut scales[r * scale_stride..][..scale_stride]);
            }
            // No quantization asks for it.
            (DType::F16 | DType::BF16 | DType::Q4_1, _) => {
                return Err(ModelError::unsupported(
                    "conversion",
                    format!("{} to {}", tensor.dtype.name(), plan.dtype.name()),
                    "native, q8_0, q4_0",
                ));
            }
        }
    }
    Ok(())
}

fn not_finite(t: &Tensor) -> ModelError {
    let layer = if t.role == Role::TokenEmbd || t.role == Role::Output {
        String::new()
    } else {
        format!(" of layer {}", t.layer)
    };
    ModelError::invalid(
        "model",
        format!("{:?}{layer} has weights that are not finite, or too large to quantize", t.role),
    )
}

/// Values and scales of a planned tensor.
fn regions<'a>(image: &'a mut [u8], plan: &TensorPlan) -> (&'a mut [u8], &'a mut [u8]) {
    let data = plan.offset as usize;
    let data_len = plan.data_bytes() as usize;
    if plan.scale_offset == 0 {
        return (&mut image[data..data + data_len], &mut []);
    }
    // Scales come after the values.
    let scales = plan.scale_offset as usize;
    let (front, back) = image.split_at_mut(scales);
    (&mut front[data..data + data_len], &mut back[..plan.scale_bytes() as usize])
}

/// Packs groups the way the engine's kernels read them: a Q8_0 byte is q, with its sign bit flipped
/// in even columns; a Q4_0 byte has the even column plus 8 in its low nibble and the odd one plus 8
/// in its high nibble. `None` if a group is.
fn pack_row(
    dtype: DType,
    groups: impl Iterator<Item = Option<Group>>,
    data: &mut [u8],
    scales: &mut [u8],
    cols: usize,
) -> Option<()> {
    for (i, group) in groups.enumerate() {
        let Group { q, scale } = group?;
        scales[2 * i..2 * i + 2].copy_from_slice(&scale.to_le_bytes());
        let used = GROUP.min(cols - i * GROUP);
        if dtype == DType::Q8_0 {
            for (j, (to, q)) in data[i * GROUP..].iter_mut().zip(&q[..used]).enumerate() {
                *to = *q as u8 ^ if j % 2 == 0 { 0x80 } else { 0 };
            }
        } else {
            for (j, q) in q[..used].iter().enumerate() {
                let nibble = (q + 8) as u8;
                data[i * GROUP / 2 + j / 2] |= nibble << (4 * (j % 2));
            }
        }
    }
    Some(())
}

/// Packs a row of Q4_1: nibbles as in Q4_0, but as they are, and scale and minimum side by side.
fn pack_with_minima(row: &[u8], data: &mut [u8], scales: &mut [u8]) {
    let groups = rows::groups_with_minima(row).zip(data.chunks_exact_mut(GROUP / 2));
    for ((g, data), scales) in groups.zip(scales.chunks_exact_mut(4)) {
        scales[..2].copy_from_slice(&g.group.scale.to_le_bytes());
        scales[2..].copy_from_slice(&g.minimum.to_le_bytes());
        for (to, q) in data.iter_mut().zip(g.group.q.chunks_exact(2)) {
            *to = q[0] as u8 | (q[1] as u8) << 4;
        }
    }
}
