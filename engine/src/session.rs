//! A model at work: weights in the image, everything that changes in the arena.

use crate::arena::{Dealer, Layout, Regions};
use crate::config::Config;
use crate::dtype::KvType;
use crate::error::EngineError;
use crate::hooks::{Hooks, NoHooks, Op};
use crate::image::{Image, NO_LAYER, Role, Tensor};
use crate::kernels::{embed, matvec};
use crate::math;
use crate::quant::Act;
use crate::session::attention::Cache;

mod attention;
mod ops;

/// Runs one sequence of tokens.
#[derive(Debug)]
pub struct Session<'a, 'm> {
    image: Image<'a>,
    ctx: u32,
    position: u32,
    has_logits: bool,
    layout: Layout,
    cache: Cache<'m>,
    x: &'m mut [f32],
    xb: &'m mut [f32],
    wide: &'m mut [f32],
    scores: &'m mut [f32],
    freq: &'m mut [f32],
    cos: &'m mut [f32],
    sin: &'m mut [f32],
    act: Act<'m>,
}

impl<'a, 'm> Session<'a, 'm> {
    /// A session at position 0 with room for `ctx` tokens. Takes [`Layout::total_bytes`] from the
    /// start of `arena` and zeroes that.
    ///
    /// # Errors
    /// [`EngineError::BadContext`] for a context of 0 or beyond the address space,
    /// [`EngineError::ArenaTooSmall`] with the bytes needed.
    // Not inlined, so that it makes the session where the caller wants it and not beside that.
    #[inline(never)]
    pub fn new(
        image: &Image<'a>,
        arena: &'m mut [u64],
        ctx: u32,
        kv: KvType,
    ) -> Result<Session<'a, 'm>, EngineError> {
        let config = *image.config();
        let (Some(layout), Some(r)) = (Layout::new(&config, ctx, kv), Regions::new(&config, ctx, kv)) else {
            return Err(EngineError::BadContext(ctx));
        };
        let have = arena.len() as u64 * 8;
        if have < layout.total_bytes {
            return Err(EngineError::ArenaTooSmall { needed: layout.total_bytes, have });
        }
        let mut deal = Dealer::new(arena);
        let d = &mut deal;
        let cache = Cache::new(d, &config, ctx, &r);
        let session = Session {
            image: *image,
            ctx,
            position: 0,
            has_logits: false,
            layout,
            cache,
            x: d.take(r.x),
            xb: d.take(r.xb),
            wide: d.take(r.wide),
            scores: d.take(r.scores),
            freq: d.take(r.rope),
            cos: d.take(r.rope),
            sin: d.take(r.rope),
            act: Act { q: d.take(r.act), groups: d.take(r.act_groups), ready: None },
        };
        let head_dim = config.head_dim as f32;
        for (i, f) in session.freq.iter_mut().enumerate() {
            *f = libm::powf(config.rope_theta, -((2 * i) as f32) / head_dim);
        }
        Ok(session)
    }

    /// Runs one token at the present position and moves on. With `want_logits` the classifier runs
    /// too and [`Session::logits`] has its result.
    ///
    /// # Errors
    /// [`EngineError::BadToken`], [`EngineError::ContextFull`], [`EngineError::NonFinite`] (the
    /// run is then invalid).
    pub fn forward(&mut self, token: u32, want_logits: bool) -> Result<(), EngineError> {
        self.forward_with(token, want_logits, &mut NoHooks)
    }

    /// [`Session::forward`] with somebody listening.
    ///
    /// # Errors
    /// As [`Session::forward`].
    pub fn forward_with<H: Hooks>(
        &mut self,
        token: u32,
        want_logits: bool,
        hooks: &mut H,
    ) -> Result<(), EngineError> {
        let c = *self.image.config();
        if token >= c.vocab {
            return Err(EngineError::BadToken(token));
        }
        if self.position >= self.ctx {
            return Err(EngineError::ContextFull(self.ctx));
        }
        self.has_logits = false;
        hooks.enter(Op::Embed, NO_LAYER);
        embed(self.x, &weights(&self.image, Role::TokenEmbd, NO_LAYER)?, token as usize);
        ops::rotary_table(self.freq, self.position, self.cos, self.sin);
        hooks.leave(Op::Embed, NO_LAYER);
        for layer in 0..c.layers {
            self.attention_block(layer, hooks)?;
            self.ffn_block(layer, hooks)?;
        }
        self.position += 1;
        if want_logits {
            self.norm(Role::OutputNorm, NO_LAYER, hooks)?;
            hooks.enter(Op::Classifier, NO_LAYER);
            let w = weights(&self.image, Role::Output, NO_LAYER)?;
            let logits = &mut self.wide[..c.vocab as usize];
            matvec(logits, &w, &self.xb[..c.dim as usize], &mut self.act);
            let bad = ops::first_non_finite(logits);
            hooks.leave(Op::Classifier, NO_LAYER);
            if let Some(i) = bad {
                return Err(EngineError::NonFinite(i));
            }
            self.has_logits = true;
        }
        Ok(())
    }

    /// Normalizes the residual stream into `xb` and quantizes it.
    fn norm<H: Hooks>(&mut self, role: Role, layer: u32, hooks: &mut H) -> Result<(), EngineError> {
        hooks.enter(Op::Norm, layer);
        let w = weights(&self.image, role, layer)?;
        let xb = &mut self.xb[..self.x.len()];
        ops::rms_norm(xb, self.x, w.as_f32(), self.image.config().norm_eps);
        self.act.set(xb);
        hooks.leave(Op::Norm, layer);
        Ok(())
    }

    // The blocks are not inlined: a small board's stack has room for one at a time.
    #[inline(never)]
    fn attention_block<H: Hooks>(&mut self, layer: u32, hooks: &mut H) -> Result<(), EngineError> {
        let c = *self.image.config();
        let (dim, q_dim, kv_dim) = (c.dim as usize, c.q_dim() as usize, c.kv_dim() as usize);
        self.norm(Role::AttnNorm, layer, hooks)?;

        hooks.enter(Op::Qkv, layer);
        let (q, rest) = self.wide.split_at_mut(q_dim);
        let (k, rest) = rest.split_at_mut(kv_dim);
        let v = &mut rest[..kv_dim];
        let x = &self.xb[..dim];
        matvec(q, &weights(&self.image, Role::AttnQ, layer)?, x, &mut self.act);
        matvec(k, &weights(&self.image, Role::AttnK, layer)?, x, &mut self.act);
        matvec(v, &weights(&self.image, Role::AttnV, layer)?, x, &mut self.act);
        hooks.leave(Op::Qkv, layer);

        hooks.enter(Op::Rope, layer);
        ops::rotate(q, self.cos, self.sin);
        ops::rotate(k, self.cos, self.sin);
        self.cache.store(layer, self.position, k, v);
        hooks.leave(Op::Rope, layer);

        hooks.enter(Op::Attention, layer);
        let out = &mut self.xb[..q_dim];
        self.cache.attend(layer, self.position, q, out, self.scores, self.act.q);
        self.act.set(out);
        hooks.leave(Op::Attention, layer);

        hooks.enter(Op::AttnOutput, layer);
        let wo = weights(&self.image, Role::AttnOutput, layer)?;
        let result = &mut self.wide[..dim];
        matvec(result, &wo, &self.xb[..q_dim], &mut self.act);
        ops::add(self.x, result);
        hooks.leave(Op::AttnOutput, layer);
        Ok(())
    }

    #[inline(never)]
    fn ffn_block<H: Hooks>(&mut self, layer: u32, hooks: &mut H) -> Result<(), EngineError> {
        let Config { dim, hidden, .. } = *self.image.config();
        let (dim, hidden) = (dim as usize, hidden as usize);
        self.norm(Role::FfnNorm, layer, hooks)?;

        hooks.enter(Op::FfnUp, layer);
        let (gate, rest) = self.wide.split_at_mut(hidden);
        let up = &mut rest[..hidden];
        let x = &self.xb[..dim];
        matvec(gate, &weights(&self.image, Role::FfnGate, layer)?, x, &mut self.act);
        matvec(up, &weights(&self.image, Role::FfnUp, layer)?, x, &mut self.act);
        hooks.leave(Op::FfnUp, layer);

        hooks.enter(Op::Activation, layer);
        for (g, u) in gate.iter_mut().zip(&*up) {
            *g = math::silu(*g) * u;
        }
        self.act.set(gate);
        hooks.leave(Op::Activation, layer);

        hooks.enter(Op::FfnDown, layer);
        let result = &mut self.xb[..dim];
        matvec(result, &weights(&self.image, Role::FfnDown, layer)?, gate, &mut self.act);
        ops::add(self.x, result);
        hooks.leave(Op::FfnDown, layer);
        Ok(())
    }

    /// The logits of the last pass, `vocab` values; empty if it did not run the classifier.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        if self.has_logits { &self.wide[..self.image.config().vocab as usize] } else { &[] }
    }

    /// Tokens run so far.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.position
    }

    /// Tokens that fit.
    #[must_use]
    pub fn ctx(&self) -> u32 {
        self.ctx
    }

    /// What was taken from the arena.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Back to position 0. What the cache holds is overwritten as positions are taken again.
    pub fn reset(&mut self) {
        self.position = 0;
        self.has_logits = false;
    }
}

fn weights<'a>(image: &Image<'a>, role: Role, layer: u32) -> Result<Tensor<'a>, EngineError> {
    // Cannot fail: `Image::parse` has checked the table. An error keeps panics out of here.
    image.tensor(role, layer).ok_or(EngineError::Image(crate::error::ImageError::Tensor(u32::MAX)))
}
