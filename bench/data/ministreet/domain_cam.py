"""The target domain: a lived-in city seen by a real camera: worn materials, weather, haze, a noisy sensor."""

from __future__ import annotations

from .spec import (
    CameraSpec,
    DomainSpec,
    LayoutSpec,
    LightSpec,
    MaterialSpec,
    SensorSpec,
    TextureSpec,
    TrafficSpec,
)

_MATERIALS: tuple[tuple[str, MaterialSpec], ...] = (
    ("asphalt", MaterialSpec(
        ((118, 114, 112), (86, 88, 92), (138, 132, 124), (104, 98, 94)), 0.12, 0.02, 0.1, 0.11, "grain", 5.2)),
    ("marking", MaterialSpec(((206, 204, 198), (190, 186, 172)), 0.08, 0.02, 0.08, 0.14, "grain", 5.2)),
    ("paving", MaterialSpec(
        ((142, 138, 134), (124, 112, 104), (160, 148, 134), (128, 130, 134)), 0.12, 0.03, 0.1, 0.1, "slabs", 3.7)),
    ("kerb", MaterialSpec(((150, 148, 142), (126, 124, 122)), 0.1, 0.02, 0.07, 0.07, "grain", 3.0)),
    ("wall", MaterialSpec(
        ((150, 142, 134), (128, 104, 92), (176, 166, 148), (112, 112, 116), (144, 128, 106), (186, 182, 178),
         (120, 84, 70), (98, 96, 92)),
        0.14, 0.04, 0.08, 0.1, "bricks", 5.6)),
    ("window", MaterialSpec(
        ((62, 66, 72), (112, 122, 132), (40, 42, 46), (150, 158, 166)), 0.2, 0.03, 0.06, 0.14, "grain", 4.0)),
    ("door", MaterialSpec(((70, 58, 50), (90, 94, 96), (48, 52, 56)), 0.15, 0.04, 0.07, 0.07, "grain", 3.0)),
    ("roof", MaterialSpec(((94, 82, 78), (82, 84, 88)), 0.12, 0.03, 0.07, 0.07, "bricks", 3.0)),
    ("fence", MaterialSpec(
        ((112, 108, 102), (84, 88, 84), (128, 112, 94), (70, 84, 76)), 0.14, 0.03, 0.1, 0.1, "planks", 1.7)),
    ("foliage", MaterialSpec(
        ((66, 78, 48), (88, 92, 56), (54, 70, 54), (112, 100, 58), (78, 96, 66)),
        0.14, 0.05, 0.24, 0.14, "leaves", 3.4)),
    ("trunk", MaterialSpec(((76, 68, 60), (92, 84, 76)), 0.12, 0.03, 0.14, 0.07, "planks", 1.0)),
    ("grass", MaterialSpec(
        ((116, 122, 76), (134, 122, 84), (98, 108, 70), (126, 110, 86)), 0.12, 0.04, 0.14, 0.15, "grass", 3.1)),
    ("pole", MaterialSpec(((96, 98, 98), (62, 64, 64), (130, 128, 124)), 0.12, 0.02, 0.04, 0.04, "grain", 2.0)),
    ("housing", MaterialSpec(((40, 44, 42), (58, 56, 50), (52, 60, 54)), 0.14, 0.02, 0.04, 0.04, "grain", 2.0)),
    ("sign_red", MaterialSpec(((172, 50, 50), (190, 62, 56)), 0.1, 0.03, 0.03, 0.06, "grain", 2.0)),
    ("sign_blue", MaterialSpec(((48, 80, 146), (60, 96, 160)), 0.1, 0.03, 0.03, 0.06, "grain", 2.0)),
    ("sign_green", MaterialSpec(((52, 82, 150), (222, 196, 84), (216, 216, 210)), 0.1, 0.03, 0.03, 0.06, "grain", 2.0)),
    ("sign_yellow", MaterialSpec(((214, 180, 62),), 0.1, 0.03, 0.03, 0.06, "grain", 2.0)),
    ("sign_white", MaterialSpec(((214, 214, 210),), 0.07, 0.02, 0.03, 0.06, "grain", 2.0)),
    ("car", MaterialSpec(
        ((44, 46, 50), (150, 152, 156), (206, 208, 210), (88, 92, 98), (60, 72, 96), (110, 40, 42), (28, 30, 32),
         (130, 124, 112)),
        0.1, 0.03, 0.03, 0.06, "grain", 3.0)),
    ("truck", MaterialSpec(
        ((196, 196, 194), (72, 88, 120), (150, 60, 54), (120, 124, 126)), 0.1, 0.03, 0.03, 0.06, "grain", 3.0)),
    ("cargo", MaterialSpec(
        ((188, 186, 180), (150, 152, 154), (120, 108, 88), (84, 100, 120)), 0.1, 0.04, 0.06, 0.08, "planks", 3.0)),
    ("bus", MaterialSpec(
        ((196, 192, 176), (188, 150, 60), (150, 52, 50), (170, 178, 182)), 0.08, 0.03, 0.03, 0.06, "grain", 3.0)),
    ("motorcycle", MaterialSpec(
        ((44, 44, 48), (120, 44, 44), (70, 80, 104), (140, 140, 144)), 0.1, 0.03, 0.04, 0.04, "grain", 2.0)),
    ("bicycle", MaterialSpec(
        ((50, 54, 58), (96, 110, 122), (140, 66, 60), (170, 170, 168)), 0.1, 0.03, 0.04, 0.04, "grain", 2.0)),
    ("glass", MaterialSpec(((58, 64, 70), (86, 94, 102)), 0.15, 0.02, 0.04, 0.1, "grain", 3.0)),
    ("tyre", MaterialSpec(((40, 40, 40),), 0.12, 0.02, 0.03, 0.03, "grain", 2.0)),
    ("metal", MaterialSpec(((136, 138, 140), (110, 110, 112)), 0.1, 0.02, 0.06, 0.04, "grain", 2.0)),
    ("skin", MaterialSpec(((190, 150, 128), (130, 96, 76), (168, 128, 104)), 0.1, 0.03, 0.03, 0.03, "grain", 1.0)),
    ("hair", MaterialSpec(
        ((48, 40, 34), (96, 78, 58), (34, 32, 32), (140, 134, 128)), 0.12, 0.03, 0.04, 0.03, "grain", 1.0)),
    ("top", MaterialSpec(
        ((58, 60, 66), (90, 92, 96), (64, 72, 92), (130, 116, 100), (150, 64, 58), (190, 186, 178), (72, 84, 70)),
        0.12, 0.04, 0.07, 0.06, "grain", 1.0)),
    ("legs", MaterialSpec(
        ((56, 62, 78), (48, 48, 50), (96, 88, 76), (70, 72, 76)), 0.12, 0.04, 0.06, 0.04, "grain", 1.0)),
)  # fmt: skip

CAM = DomainSpec(
    name="cam",
    camera=CameraSpec(
        height=(1.15, 1.55), field_of_view=(50.0, 60.0), pitch=(-1.5, 3.0), yaw=(-7.0, 7.0), roll=(-1.2, 1.2),
        step=(1.4, 2.8), yaw_step=(0.8, 2.4), pitch_jitter=0.35,
    ),
    layout=LayoutSpec(
        lanes=(2, 3), lane_width=(2.9, 3.4), parking=0.7, verge=(0.8, 2.4), verge_share=0.4, sidewalk=(1.6, 3.4),
        yard=(0.0, 4.0), yard_grass=0.65, facade_height=(9.0, 28.0), facade_length=(7.0, 26.0), gap_share=0.35,
        gap_length=(4.0, 18.0), crossing_share=0.45, closed_share=0.4, fence_height=(1.0, 2.2), floor=(2.8, 4.0),
        window_width=(1.0, 2.4), window_share=(0.4, 0.7), tree_height=(4.0, 10.0), tree_aspect=(0.5, 1.1),
        tree_spacing=(6.0, 16.0), tree_share=0.65, pole_spacing=(7.0, 15.0), light_size=(1.1, 1.5),
        sign_size=(0.85, 1.2), board_share=0.35, tree_shapes=("round", "wide", "column"), tree_roughness=(0.35, 0.7),
    ),
    traffic=TrafficSpec(
        cars=(3, 7), trucks=(0, 2), buses=(0, 2), persons=(4, 9), bicycles=(2, 5), motorcycles=(2, 4),
        rider_share=0.6, parked_share=0.55, speed=(1.0, 3.4), cycle_speed=(0.4, 1.3), walk_speed=(0.1, 0.4),
        near=6.5, far=19.0, car_length=(3.6, 5.0), car_height=(1.4, 1.85), truck_length=(5.5, 10.0),
        truck_height=(2.6, 3.8), bus_length=(8.0, 13.0), bus_height=(2.9, 3.4), person_height=(1.5, 1.95),
        cycle_length=(1.6, 2.1), cabin=(0.55, 0.75),
    ),
    texture=TextureSpec(octaves=6, first=3, persistence=0.7, joints=0.5),
    light=LightSpec(
        sun_elevation=(18.0, 55.0), overcast_share=0.45, sun=(0.3, 0.7), ambient=(0.55, 0.75), warmth=(-0.02, 0.16),
        shadow_softness=(0.1, 0.7), haze=(0.002, 0.008), sky_zenith=((150, 164, 184), (186, 190, 194), (118, 146, 182)),
        sky_horizon=((206, 208, 208), (222, 220, 212), (190, 198, 206)), cloud=((226, 226, 226), (196, 198, 202)),
        cloud_cover=(0.2, 0.95), haze_tint=((196, 198, 200), (206, 202, 192)),
    ),
    sensor=SensorSpec(
        exposure=(0.9, 1.15), flicker=0.04, vignette=(0.05, 0.25), gradient=(0.0, 0.2), white_balance=0.03,
        saturation=(0.75, 1.05), gamma=(0.85, 1.15), defocus=(0.4, 0.8), motion_blur=(0.0, 1.5), read_noise=(5.0, 8.0),
        shot_noise=(4.0, 8.0), coarse_noise=(2.0, 4.0), dirt=(1, 4), dirt_strength=(0.15, 0.4), glare=(0.0, 0.18),
        jpeg=(55, 85),
    ),
    materials=_MATERIALS,
)  # fmt: skip
