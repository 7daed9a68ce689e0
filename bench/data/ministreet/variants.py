"""Named variants of groups, to be taken into mixtures: another town, times of day, weathers, cheap cameras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .domain_cam import CAM
from .domain_city import CITY
from .materials_oldtown import MATERIALS
from .spec import CameraSpec, Group, LayoutSpec, LightSpec, Materials, SensorSpec, WeatherSpec

VAN = CameraSpec(
    height=(1.7, 2.0), field_of_view=(38.0, 44.0), pitch=(-4.5, -1.0), yaw=(-5.0, 5.0), roll=(-1.0, 1.0),
    step=(0.9, 1.9), yaw_step=(0.6, 2.0), pitch_jitter=0.35,
)  # fmt: skip
"""Higher, tilted down, narrower, shaken."""

OLDTOWN_LAYOUT = LayoutSpec(
    lanes=(2, 2), lane_width=(2.8, 3.1), parking=0.25, verge=(1.2, 2.2), verge_share=0.25, sidewalk=(2.8, 4.6),
    yard=(0.0, 3.0), yard_grass=0.6, facade_height=(6.0, 16.0), facade_length=(6.0, 14.0), gap_share=0.4,
    gap_length=(6.0, 14.0), crossing_share=0.5, closed_share=0.6, fence_height=(1.4, 2.6), floor=(2.8, 4.2),
    window_width=(1.0, 2.6), window_share=(0.35, 0.8), tree_height=(4.5, 8.0), tree_aspect=(0.5, 1.0),
    tree_spacing=(9.0, 15.0), tree_share=0.25, pole_spacing=(8.5, 13.0), light_size=(1.8, 2.3), sign_size=(1.5, 2.0),
    board_share=0.55, tree_shapes=("wide", "column"), tree_roughness=(0.06, 0.14), end=26.0, poles_to=13.5,
)  # fmt: skip
"""Narrow streets, high houses, other trees."""

MARKET = replace(
    CITY.traffic, cars=(0, 2), persons=(1, 2), bicycles=(0, 2), motorcycles=(0, 2), rider_share=0.35, parked_share=0.6,
    near=5.2, far=7.2, car_length=(3.2, 5.0), car_height=(1.5, 1.9), cabin=(0.6, 0.8), truck_length=(5.0, 8.5),
    truck_height=(2.5, 3.7), bus_length=(6.0, 9.5), bus_height=(2.7, 3.7), person_height=(1.5, 1.9),
)  # fmt: skip
"""More people and two-wheelers, fewer and bulkier cars."""

LORRY = replace(
    CITY.camera, height=(2.7, 3.3), field_of_view=(64.0, 74.0), pitch=(-12.0, -5.0), roll=(-4.0, 4.0), pitch_jitter=0.5
)
"""High up in a cab, looking down, wide."""

VILLAGE = replace(
    CITY.layout, lanes=(2, 2), lane_width=(2.7, 3.0), verge=(0.6, 3.0), verge_share=0.7, sidewalk=(1.2, 2.2), yard=(2.0, 6.0),
    facade_height=(4.0, 7.5), facade_length=(6.0, 11.0), gap_share=0.6, closed_share=0.1, fence_height=(0.8, 1.5),
    tree_height=(3.0, 9.0), tree_share=0.7, tree_shapes=("wide", "column"), tree_roughness=(0.25, 0.4),
)  # fmt: skip
"""Low houses behind gardens, narrow sidewalks, low fences, large trees."""

CROWD = replace(
    CITY.traffic, cars=(0, 1), trucks=(0, 1), buses=(0, 1), persons=(8, 14), bicycles=(3, 6), motorcycles=(3, 6),
    rider_share=1.0, parked_share=0.8, near=3.3, far=16.0, car_length=(2.6, 3.2), car_height=(1.8, 2.2), cabin=(0.75, 0.9),
    truck_length=(4.2, 5.4), truck_height=(2.0, 2.5), bus_length=(4.8, 6.2), bus_height=(3.8, 4.4), person_height=(1.0, 1.8),
    cycle_length=(1.3, 1.7),
)  # fmt: skip
"""People and two-wheelers in front of each other, near and far, and few vehicles, of other proportions."""

OVERCAST = replace(
    CAM.light, overcast_share=1.0, haze=(0.002, 0.006), ambient=(0.5, 0.7), cloud_cover=(0.8, 1.0)
)  # fmt: skip

LOW_SUN = LightSpec(
    sun_elevation=(6.0, 13.0), overcast_share=0.0, sun=(0.8, 1.1), ambient=(0.32, 0.45), warmth=(0.14, 0.28),
    shadow_softness=(0.1, 0.4), haze=(0.002, 0.006), sky_zenith=((108, 140, 190), (124, 130, 168)),
    sky_horizon=((250, 206, 150), (244, 188, 140)), cloud=((250, 214, 180), (226, 180, 160)), cloud_cover=(0.1, 0.5),
    haze_tint=((246, 214, 170),), sun_ahead=0.6, flare=(0.1, 0.9), bloom=0.05,
)  # fmt: skip
"""Long shadows, and often a sun ahead that blinds for a frame."""

NIGHT = LightSpec(
    sun_elevation=(35.0, 60.0), overcast_share=0.0, sun=(0.02, 0.05), ambient=(0.05, 0.11), warmth=(-0.12, -0.04),
    shadow_softness=(0.3, 0.8), haze=(0.001, 0.004), sky_zenith=((10, 13, 28), (18, 20, 34)),
    sky_horizon=((38, 36, 48), (54, 46, 46)), cloud=((40, 38, 46),), cloud_cover=(0.1, 0.6), haze_tint=((34, 33, 40),),
    lamps=(0.15, 0.35), headlights=(0.25, 0.5), windows_lit=0.3, bloom=0.12,
)  # fmt: skip
"""Street lamps, lit windows and our own headlights."""

RAIN = WeatherSpec(
    sunless=1.0, fog=(0.002, 0.008), wet=(0.5, 0.9), rain=(0.3, 0.8), drops=(4, 9), drop_size=(0.03, 0.08), wiper=0.3
)
FOG = WeatherSpec(sunless=1.0, fog=(0.015, 0.04))

DASHCAM = SensorSpec(
    exposure=(0.9, 1.15), flicker=0.05, vignette=(0.05, 0.2), gradient=(0.0, 0.12), white_balance=0.04,
    saturation=(0.8, 1.1), gamma=(0.85, 1.15), defocus=(0.35, 0.45), motion_blur=(0.0, 0.8), read_noise=(1.5, 3.0),
    shot_noise=(1.0, 2.5), coarse_noise=(0.3, 0.9), dirt=(0, 2), dirt_strength=(0.1, 0.25), glare=(0.0, 0.1), jpeg=(75, 92),
    shake_share=0.2, shake=(3.0, 7.0), exposure_share=0.2, exposure_step=(0.4, 0.8), loss_share=0.15, loss=(0.15, 0.3),
)  # fmt: skip
"""Frames differ: some are shaken, some badly exposed, some arrive in part."""

WEBCAM = replace(
    DASHCAM, saturation=(0.3, 0.8), gamma=(0.7, 1.5), white_balance=0.1, defocus=(0.7, 1.2), read_noise=(5.0, 9.0),
    coarse_noise=(2.0, 4.0), dirt=(2, 5), dirt_strength=(0.3, 0.6), glare=(0.0, 0.3), jpeg=(20, 45),
)  # fmt: skip
"""Pale, soft, noisy, compressed to the limit, and as unreliable as the dashcam."""

VARIANTS: Mapping[str, Mapping[str, Group | Materials]] = {
    "camera": {"van": VAN, "lorry": LORRY},
    "layout": {"oldtown": OLDTOWN_LAYOUT, "village": VILLAGE},
    "traffic": {"market": MARKET, "crowd": CROWD},
    "texture": {"worn": CAM.texture},
    "light": {"noon": CITY.light, "overcast": OVERCAST, "low_sun": LOW_SUN, "night": NIGHT},
    "weather": {"dry": WeatherSpec(), "rain": RAIN, "fog": FOG},
    "sensor": {"dashcam": DASHCAM, "webcam": WEBCAM},
    "materials": {"oldtown": MATERIALS},
}
