//! Points in a forward pass where a profiler may listen.

/// The operators of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Reading the token's embedding.
    Embed,
    /// RMSNorm, including the quantization of its result.
    Norm,
    /// Query, key and value projections.
    Qkv,
    /// Rotary embedding and storing key and value.
    Rope,
    /// Scores, softmax and weighted sum over all heads.
    Attention,
    /// Attention output projection.
    AttnOutput,
    /// Gate and up projections.
    FfnUp,
    /// SwiGLU activation.
    Activation,
    /// Down projection.
    FfnDown,
    /// Classifier.
    Classifier,
}

/// Listens to the operators of a forward pass. Both calls do nothing unless overridden, and then
/// compile to nothing. `layer` is [`crate::image::NO_LAYER`] outside layers.
pub trait Hooks {
    /// An operator begins.
    #[inline(always)]
    fn enter(&mut self, op: Op, layer: u32) {
        let _ = (op, layer);
    }

    /// The operator that began last has ended.
    #[inline(always)]
    fn leave(&mut self, op: Op, layer: u32) {
        let _ = (op, layer);
    }
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}
