"""Small models of families that timm has only at full size. Importing this registers them with timm."""

from timm.models import register_model
from timm.models.eva import vit_small_patch16_dinov3
from timm.models.swin_transformer import swin_tiny_patch4_window7_224


@register_model
def tiny_swin(pretrained=False, **options):
    """Swin with four stages of 16 to 128 channels, and timm's stochastic depth."""
    small = {"embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8)}
    return swin_tiny_patch4_window7_224(pretrained, **{**small, **options})


@register_model
def tiny_dinov3(pretrained=False, **options):
    """A ViT like those of DINOv3: rotary positions, register tokens, patches of 16 px, 32 channels."""
    return vit_small_patch16_dinov3(pretrained, **{"embed_dim": 32, "depth": 2, "num_heads": 2, **options})
