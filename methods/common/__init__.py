"""Building blocks that methods share: plain functions of tensors and numbers, and thin modules around them.

Argument order, shapes, units and sources stand in each docstring. Maps are ``(N, C, H, W)``, labels integer with 255 = ignore, flow
``(N, 2, H, W)`` backward in pixels, x first. What STPL itself needs (warping, fusion, contrast, thresholds) is in :mod:`stpl`.

* uncertainty: :func:`self_information`, :func:`entropy_loss`, :func:`normalised_entropy`, :func:`robust_entropy`,
  :func:`diversity`, :func:`decoder_disagreement`, :func:`drop_channels`
* domains: :class:`Discriminator`, :func:`domain_loss`, :func:`weight_discrepancy`, :func:`judged`, :class:`Adversary`
* frequencies: :func:`spectral_transfer`, :func:`fourier_mix`, :func:`swap_amplitude`; :func:`band_map`, :func:`band_energy`,
  :func:`swap_bands`, :func:`attack_term`, :func:`top_components`, :func:`reverse_gradient`
* colours and views: :func:`match_histograms`, :class:`Geometry`, :func:`photometric`, :func:`strong_view`, :func:`strong_colours`,
  :func:`rotate_hue`, :func:`rescale`, :func:`resized`, :func:`random_boxes`, :func:`cut_mix`
* labels: :func:`two_head_labels`, :func:`class_balanced_portion`, :func:`relative_labels`, :class:`LabelBank`,
  :func:`label_confident`, :func:`mean_over_views`, :func:`in_mode`, :func:`even_rounds`
* mixing and masking: :func:`draw_classes`, :func:`class_mask`, :func:`mix_clips`, :func:`mix_labels`, :func:`at_size`;
  :func:`block_mask`, :func:`hide`, :func:`dense_labels`, :func:`masked_consistency`, :func:`ramped_decay`
* classes: :func:`class_means`, :func:`prototype_similarity`, :class:`ClassMemory`, :class:`Candidates`, :func:`confident`,
  :func:`consistent`, :func:`rare_classes`
* thresholds: :func:`class_percentiles`, :func:`adapted`, :func:`label_adaptively`, :class:`PeakThresholds`
* views: :func:`mirrored`, :func:`averaged_views`; densities: :func:`soft_neighbourhood_density`, :class:`DensityRecord`
* time: :func:`flow_at`, :func:`frame_scores`, :func:`propagate`, :func:`intra_domain_consistency`, :func:`warped_labels`,
  :func:`aggregated_prediction`, :func:`temporal_pseudo_supervision`
* earlier models: :func:`frozen_copy`, :func:`ema_update`, :class:`Teacher`, :func:`instance_contrast`, :func:`projector`,
  :func:`reliability`, :func:`samples`, :func:`small_labels`, :func:`agreement`, :func:`trusted_cross_entropy`,
  :class:`RareClassWeights`
* supervision: :func:`supervised`, :func:`supervised_terms`, :func:`balanced_weights`, :func:`upsampled_cross_entropy`,
  :func:`soft_cross_entropy`
* what changes weights or keeps state: :func:`restore_weights`, :class:`Growing`
"""

from .adversarial import Adversary, Discriminator, domain_loss, judged, weight_discrepancy
from .augment import Geometry, photometric, strong_view
from .bands import attack_term, band_energy, band_map, reverse_gradient, swap_bands, top_components
from .candidates import Candidates, confident, consistent, rare_classes
from .class_features import ClassMemory, class_means, prototype_similarity
from .class_mix import at_size, class_mask, draw_classes, mix_clips, mix_labels
from .density import DensityRecord, soft_neighbourhood_density
from .ema import ema_update, frozen_copy
from .fourier import fourier_mix, spectral_transfer, swap_amplitude
from .growing import Growing
from .histogram import match_histograms
from .historical import (
    RareClassWeights,
    agreement,
    instance_contrast,
    projector,
    reliability,
    samples,
    small_labels,
    trusted_cross_entropy,
)
from .information import entropy_loss, normalised_entropy, robust_entropy, self_information
from .losses import balanced_weights, supervised, supervised_terms, upsampled_cross_entropy
from .masking import block_mask, dense_labels, hide, masked_consistency, ramped_decay
from .mixing import cut_mix, random_boxes
from .restore import restore_weights
from .rounds import LabelBank, even_rounds, in_mode, label_confident, mean_over_views
from .selection import class_balanced_portion, relative_labels, two_head_labels
from .soft_labels import soft_cross_entropy
from .supervision import rescale, resized, rotate_hue, strong_colours, temporal_pseudo_supervision
from .teacher import Teacher
from .temporal import (
    aggregated_prediction,
    flow_at,
    frame_scores,
    intra_domain_consistency,
    propagate,
    warped_labels,
)
from .thresholds import PeakThresholds, adapted, class_percentiles, label_adaptively
from .uncertainty import decoder_disagreement, diversity, drop_channels
from .views import averaged_views, mirrored

__all__ = [
    "Adversary",
    "Candidates",
    "ClassMemory",
    "DensityRecord",
    "Discriminator",
    "Geometry",
    "Growing",
    "LabelBank",
    "PeakThresholds",
    "RareClassWeights",
    "Teacher",
    "adapted",
    "aggregated_prediction",
    "agreement",
    "at_size",
    "attack_term",
    "averaged_views",
    "balanced_weights",
    "band_energy",
    "band_map",
    "block_mask",
    "class_balanced_portion",
    "class_mask",
    "class_means",
    "class_percentiles",
    "confident",
    "consistent",
    "cut_mix",
    "decoder_disagreement",
    "dense_labels",
    "diversity",
    "domain_loss",
    "draw_classes",
    "drop_channels",
    "ema_update",
    "entropy_loss",
    "even_rounds",
    "flow_at",
    "fourier_mix",
    "frame_scores",
    "frozen_copy",
    "hide",
    "in_mode",
    "instance_contrast",
    "intra_domain_consistency",
    "judged",
    "label_adaptively",
    "label_confident",
    "masked_consistency",
    "match_histograms",
    "mean_over_views",
    "mirrored",
    "mix_clips",
    "mix_labels",
    "normalised_entropy",
    "photometric",
    "projector",
    "propagate",
    "prototype_similarity",
    "ramped_decay",
    "random_boxes",
    "rare_classes",
    "relative_labels",
    "reliability",
    "rescale",
    "resized",
    "restore_weights",
    "reverse_gradient",
    "robust_entropy",
    "rotate_hue",
    "samples",
    "self_information",
    "small_labels",
    "soft_cross_entropy",
    "soft_neighbourhood_density",
    "spectral_transfer",
    "strong_colours",
    "strong_view",
    "supervised",
    "supervised_terms",
    "swap_amplitude",
    "swap_bands",
    "temporal_pseudo_supervision",
    "top_components",
    "trusted_cross_entropy",
    "two_head_labels",
    "upsampled_cross_entropy",
    "warped_labels",
    "weight_discrepancy",
]
