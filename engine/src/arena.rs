//! How much memory a session takes, to the byte, and how it is dealt out.

use crate::config::Config;
use crate::dtype::{GROUP, KvType};
use crate::quant::Group;

/// Memory a session needs. Exactly what [`crate::session::Session`] takes from its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the key-value cache, scales included.
    pub kv_bytes: u64,
    /// Bytes of everything else: activations, scores, logits, rotary tables.
    pub scratch_bytes: u64,
    /// The sum of both; a multiple of 8.
    pub total_bytes: u64,
}

impl Layout {
    /// The memory for a context of `ctx` tokens. `None` if the configuration is invalid, `ctx` is 0,
    /// or the size does not fit 64 bits.
    #[must_use]
    pub fn new(config: &Config, ctx: u32, kv: KvType) -> Option<Layout> {
        let r = Regions::new(config, ctx, kv)?;
        let kv_bytes = r.kv_bytes()?;
        let scratch_bytes = r.scratch_bytes()?;
        let total_bytes = kv_bytes.checked_add(scratch_bytes)?;
        Some(Layout { kv_bytes, scratch_bytes, total_bytes })
    }
}

/// Lengths of the regions in elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regions {
    pub(crate) kv: KvType,
    /// Values of the key cache, and again of the value cache: `[layer][kv head][position][i]`.
    pub(crate) cache: u64,
    /// f32 scales of the key cache, and again of the value cache: `[layer][kv head][position]`.
    pub(crate) cache_scales: u64,
    /// f32: residual stream.
    pub(crate) x: u64,
    /// f32: normalized activations, attention result.
    pub(crate) xb: u64,
    /// f32: query, key, value; later the attention block's result; later gate and up; at last the logits.
    pub(crate) wide: u64,
    /// f32: attention scores of one head.
    pub(crate) scores: u64,
    /// f32: rotary frequencies, and again sines and cosines.
    pub(crate) rope: u64,
    /// i8: quantized activations.
    pub(crate) act: u64,
    /// [`Group`]: the same, expanded for the kernels.
    pub(crate) act_groups: u64,
}

fn bytes(count: u64, size: u64) -> Option<u64> {
    count.checked_mul(size)?.checked_next_multiple_of(8)
}

impl Regions {
    pub(crate) fn new(config: &Config, ctx: u32, kv: KvType) -> Option<Regions> {
        config.validate().ok()?;
        if ctx == 0 {
            return None;
        }
        let (dim, hidden) = (u64::from(config.dim), u64::from(config.hidden));
        let (q, kvd) = (u64::from(config.q_dim()), u64::from(config.kv_dim()));
        let slots = u64::from(config.layers).checked_mul(u64::from(ctx))?;
        let widest = dim.max(q).max(hidden);
        let scaled = kv == KvType::I8;
        Some(Regions {
            kv,
            cache: slots.checked_mul(kvd)?,
            cache_scales: if scaled { slots.checked_mul(u64::from(config.kv_heads))? } else { 0 },
            x: dim,
            xb: dim.max(q),
            wide: (q + 2 * kvd).max(2 * hidden).max(dim).max(config.vocab.into()),
            scores: u64::from(ctx),
            rope: u64::from(config.head_dim) / 2,
            act: widest.next_multiple_of(GROUP as u64),
            act_groups: widest.div_ceil(GROUP as u64),
        })
    }

    fn kv_bytes(&self) -> Option<u64> {
        let one = bytes(self.cache, self.kv.value_bytes())?.checked_add(bytes(self.cache_scales, 4)?)?;
        one.checked_mul(2)
    }

    fn scratch_bytes(&self) -> Option<u64> {
        let f32s = [self.x, self.xb, self.wide, self.scores, self.rope, self.rope, self.rope];
        let mut sum = bytes(self.act, 1)?.checked_add(bytes(self.act_groups, size_of::<Group>() as u64)?)?;
        for n in f32s {
            sum = sum.checked_add(bytes(n, 4)?)?;
        }
        Some(sum)
    }
}

/// Element types that any bits make a valid value of, with an alignment of at most 8.
pub(crate) trait Plain: Copy {}
impl Plain for i8 {}
impl Plain for u16 {}
impl Plain for Group {}
impl Plain for f32 {}

/// Deals out an arena from the front.
pub(crate) struct Dealer<'m> {
    rest: &'m mut [u64],
}

impl<'m> Dealer<'m> {
    pub(crate) fn new(arena: &'m mut [u64]) -> Self {
        Dealer { rest: arena }
    }

    /// The next `count` elements, zeroed. The caller has compared the arena with the layout; an
    /// arena that is too small all the same yields an empty slice.
    pub(crate) fn take<T: Plain>(&mut self, count: u64) -> &'m mut [T] {
        let size = size_of::<T>();
        let count = count as usize;
        let words = (count * size).div_ceil(8);
        let rest = core::mem::take(&mut self.rest);
        if words > rest.len() {
            return &mut [];
        }
        let (mine, rest) = rest.split_at_mut(words);
        self.rest = rest;
        mine.fill(0);
        // SAFETY: `mine` is exclusively ours for 'm and holds words * 8 >= count * size bytes; u64's
        // alignment covers T's, and every bit pattern is a value of a `Plain` type and of u64.
        unsafe { core::slice::from_raw_parts_mut(mine.as_mut_ptr().cast::<T>(), count) }
    }
}
