"""Names and shapes of the tensors in checkpoints of latent diffusion, by the rules of its published
configurations.
"""

from collections.abc import Sequence

Shapes = dict[str, tuple[int, ...]]


def layer(name: str, out: int, *inputs: int, bias: bool = True) -> Shapes:
    """A linear layer or a convolution: weight of shape (out, *inputs), and its bias."""
    return {f"{name}.weight": (out, *inputs), **({f"{name}.bias": (out,)} if bias else {})}


def below(name: str, shapes: Shapes) -> Shapes:
    return {f"{name}.{key}": shape for key, shape in shapes.items()}


def unet(
    width: int = 320,
    mults: Sequence[int] = (1, 2, 4, 4),
    blocks: int = 2,
    looks: Sequence[int] = (4, 2, 1),
    tokens: int = 768,
    channels: tuple[int, int] = (8, 4),
) -> Shapes:
    """``openaimodel.UNetModel`` with spatial transformers of depth 1.

    The defaults are sd-objaverse-finetune-c_concat-256.
    """

    def resnet(inside: int, out: int) -> Shapes:
        shapes = {**layer("in_layers.0", inside), **layer("in_layers.2", out, inside, 3, 3)}
        shapes |= {
            **layer("emb_layers.1", out, 4 * width),
            **layer("out_layers.0", out),
            **layer("out_layers.3", out, out, 3, 3),
        }
        return (
            shapes if inside == out else {**shapes, **layer("skip_connection", out, inside, 1, 1)}
        )

    def transformer(c: int) -> Shapes:
        block: Shapes = {}
        for name, source in (("attn1", c), ("attn2", tokens)):
            block |= layer(f"{name}.to_q", c, c, bias=False)
            block |= {
                **layer(f"{name}.to_k", c, source, bias=False),
                **layer(f"{name}.to_v", c, source, bias=False),
            }
            block |= layer(f"{name}.to_out.0", c, c)
        block |= {**layer("ff.net.0.proj", 8 * c, c), **layer("ff.net.2", c, 4 * c)}
        block |= {**layer("norm1", c), **layer("norm2", c), **layer("norm3", c)}
        ends = {**layer("norm", c), **layer("proj_in", c, c, 1, 1), **layer("proj_out", c, c, 1, 1)}
        return {**ends, **below("transformer_blocks.0", block)}

    found = {
        **layer("time_embed.0", 4 * width, width),
        **layer("time_embed.2", 4 * width, 4 * width),
    }
    found |= layer("input_blocks.0.0", width, channels[0], 3, 3)
    c, scale, index, kept = width, 1, 1, [width]
    for level, mult in enumerate(mults):
        for _ in range(blocks):
            found |= below(f"input_blocks.{index}.0", resnet(c, mult * width))
            c = mult * width
            if scale in looks:
                found |= below(f"input_blocks.{index}.1", transformer(c))
            kept.append(c)
            index += 1
        if level + 1 < len(mults):
            found |= layer(f"input_blocks.{index}.0.op", c, c, 3, 3)
            kept.append(c)
            index, scale = index + 1, 2 * scale
    for i, part in enumerate((resnet(c, c), transformer(c), resnet(c, c))):
        found |= below(f"middle_block.{i}", part)
    index = 0
    for level, mult in reversed(list(enumerate(mults))):
        for i in range(blocks + 1):
            found |= below(f"output_blocks.{index}.0", resnet(c + kept.pop(), mult * width))
            c = mult * width
            if scale in looks:
                found |= below(f"output_blocks.{index}.1", transformer(c))
            if level and i == blocks:
                found |= layer(f"output_blocks.{index}.{1 + (scale in looks)}.conv", c, c, 3, 3)
                scale //= 2
            index += 1
    return {**found, **layer("out.0", c), **layer("out.2", channels[1], c, 3, 3)}


def vae(
    width: int = 128, mults: Sequence[int] = (1, 2, 4, 4), blocks: int = 2, z: int = 4
) -> Shapes:
    """``AutoencoderKL`` without attention but in the middle."""

    def resnet(inside: int, out: int) -> Shapes:
        shapes = {
            **layer("norm1", inside),
            **layer("conv1", out, inside, 3, 3),
            **layer("norm2", out),
        }
        shapes |= layer("conv2", out, out, 3, 3)
        return shapes if inside == out else {**shapes, **layer("nin_shortcut", out, inside, 1, 1)}

    def middle(c: int) -> Shapes:
        look = layer("norm", c)
        for name in ("q", "k", "v", "proj_out"):
            look |= layer(name, c, c, 1, 1)
        return {
            **below("block_1", resnet(c, c)),
            **below("attn_1", look),
            **below("block_2", resnet(c, c)),
        }

    encoder, c = layer("conv_in", width, 3, 3, 3), width
    for level, mult in enumerate(mults):
        for j in range(blocks):
            encoder |= below(f"down.{level}.block.{j}", resnet(c, mult * width))
            c = mult * width
        if level + 1 < len(mults):
            encoder |= layer(f"down.{level}.downsample.conv", c, c, 3, 3)
    encoder |= {
        **below("mid", middle(c)),
        **layer("norm_out", c),
        **layer("conv_out", 2 * z, c, 3, 3),
    }
    decoder = {**layer("conv_in", c, z, 3, 3), **below("mid", middle(c))}
    for level, mult in reversed(list(enumerate(mults))):
        for j in range(blocks + 1):
            decoder |= below(f"up.{level}.block.{j}", resnet(c, mult * width))
            c = mult * width
        if level:
            decoder |= layer(f"up.{level}.upsample.conv", c, c, 3, 3)
    decoder |= {**layer("norm_out", c), **layer("conv_out", 3, c, 3, 3)}
    ends = {**layer("quant_conv", 2 * z, 2 * z, 1, 1), **layer("post_quant_conv", z, z, 1, 1)}
    return {**below("encoder", encoder), **below("decoder", decoder), **ends}


def clip_visual(
    width: int = 1024, layers: int = 24, patch: int = 14, side: int = 224, out: int = 768
) -> Shapes:
    """``VisionTransformer`` of OpenAI's CLIP; the defaults are ViT-L/14."""
    found: Shapes = {
        "class_embedding": (width,),
        "proj": (width, out),
        "conv1.weight": (width, 3, patch, patch),
    }
    found |= {
        "positional_embedding": ((side // patch) ** 2 + 1, width),
        **layer("ln_pre", width),
        **layer("ln_post", width),
    }
    for i in range(layers):
        block: Shapes = {
            "attn.in_proj_weight": (3 * width, width),
            "attn.in_proj_bias": (3 * width,),
        }
        block |= {
            **layer("attn.out_proj", width, width),
            **layer("ln_1", width),
            **layer("ln_2", width),
        }
        block |= {**layer("mlp.c_fc", 4 * width, width), **layer("mlp.c_proj", width, 4 * width)}
        found |= below(f"transformer.resblocks.{i}", block)
    return found


def zero123(networks: tuple[Shapes, Shapes, Shapes], token: int = 768) -> Shapes:
    """A whole checkpoint of Zero123.

    UNet, autoencoder and CLIP, with averages, the projection, and what nobody needs.
    """
    unet_shapes, vae_shapes, visual = networks
    found = below("model.diffusion_model", unet_shapes)
    found |= {
        f"model_ema.diffusion_model{name.replace('.', '')}": shape
        for name, shape in unet_shapes.items()
    }
    found |= {
        "model_ema.decay": (),
        "model_ema.num_updates": (),
        "betas": (1000,),
        "alphas_cumprod": (1000,),
    }
    found |= {"posterior_variance": (1000,), "log_one_minus_alphas_cumprod": (1000,)}
    found |= {
        **below("first_stage_model", vae_shapes),
        **below("cond_stage_model.model.visual", visual),
    }
    found |= {
        "cond_stage_model.model.logit_scale": (),
        "cond_stage_model.model.positional_embedding": (77, token),
    }
    return {**found, **layer("cc_projection", token, token + 4)}
