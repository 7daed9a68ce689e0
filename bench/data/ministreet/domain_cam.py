"""The target domain: a lived-in city seen by a real camera: worn materials, weather, haze, a noisy sensor."""

from __future__ import annotations

from .spec import CameraSpec, DomainSpec, LayoutSpec, LightSpec, MaterialSpec, SensorSpec, TextureSpec, TrafficSpec

_MATERIALS: tuple[tuple[str, MaterialSpec], ...] = (
    ("asphalt", MaterialSpec(
        ((106, 104, 106), (92, 94, 98), (118, 114, 110), (100, 96, 96)), 0.08, 0.015, 0.09, 0.08, "grain", 5.2)),
    ("marking", MaterialSpec(((206, 204, 198), (190, 186, 172)), 0.08, 0.02, 0.07, 0.11, "grain", 5.2)),
    ("paving", MaterialSpec(
        ((160, 142, 128), (146, 130, 120), (172, 156, 138), (154, 148, 140)), 0.08, 0.025, 0.09, 0.08, "slabs", 3.7)),
    ("kerb", MaterialSpec(((150, 148, 142), (126, 124, 122)), 0.1, 0.02, 0.06, 0.05, "grain", 3.0)),
    ("wall", MaterialSpec(
        ((150, 142, 134), (128, 104, 92), (176, 166, 148), (112, 112, 116), (144, 128, 106), (186, 182, 178),
         (120, 84, 70), (98, 96, 92)),
        0.1, 0.035, 0.07, 0.08, "bricks", 5.6)),
    ("window", MaterialSpec(
        ((62, 68, 76), (92, 104, 116), (48, 52, 58), (124, 134, 144)), 0.12, 0.03, 0.05, 0.11, "grain", 4.0)),
    ("door", MaterialSpec(((70, 58, 50), (90, 94, 96), (48, 52, 56)), 0.15, 0.04, 0.06, 0.05, "grain", 3.0)),
    ("roof", MaterialSpec(((94, 82, 78), (82, 84, 88)), 0.12, 0.03, 0.06, 0.05, "bricks", 3.0)),
    ("fence", MaterialSpec(
        ((112, 90, 68), (92, 78, 64), (128, 102, 76), (92, 104, 94)), 0.09, 0.03, 0.09, 0.08, "planks", 1.7)),
    ("foliage", MaterialSpec(
        ((68, 90, 44), (88, 102, 52), (58, 82, 48), (114, 108, 54), (78, 100, 60)),
        0.09, 0.04, 0.19, 0.09, "leaves", 3.4)),
    ("trunk", MaterialSpec(((76, 68, 60), (92, 84, 76)), 0.12, 0.03, 0.12, 0.05, "planks", 1.0)),
    ("grass", MaterialSpec(
        ((140, 146, 82), (154, 142, 88), (122, 138, 78), (150, 134, 92)), 0.08, 0.04, 0.12, 0.11, "grass", 3.1)),
    ("pole", MaterialSpec(((96, 98, 98), (62, 64, 64), (130, 128, 124)), 0.12, 0.02, 0.03, 0.03, "grain", 2.0)),
    ("housing", MaterialSpec(((34, 38, 36), (46, 46, 42)), 0.14, 0.02, 0.03, 0.03, "grain", 2.0)),
    ("sign_red", MaterialSpec(((186, 46, 46), (196, 60, 54)), 0.1, 0.03, 0.03, 0.04, "grain", 2.0)),
    ("sign_blue", MaterialSpec(((48, 80, 146), (60, 96, 160)), 0.1, 0.03, 0.03, 0.04, "grain", 2.0)),
    ("sign_green", MaterialSpec(((52, 82, 150), (222, 196, 84)), 0.1, 0.03, 0.03, 0.04, "grain", 2.0)),
    ("sign_yellow", MaterialSpec(((214, 180, 62),), 0.1, 0.03, 0.03, 0.04, "grain", 2.0)),
    ("sign_white", MaterialSpec(((214, 214, 210),), 0.07, 0.02, 0.03, 0.04, "grain", 2.0)),
    ("car", MaterialSpec(
        ((44, 46, 50), (150, 152, 156), (206, 208, 210), (88, 92, 98), (56, 76, 120), (134, 42, 42), (34, 36, 40),
         (130, 124, 112)),
        0.1, 0.03, 0.03, 0.04, "grain", 3.0)),
    ("truck", MaterialSpec(
        ((204, 204, 200), (66, 94, 148), (166, 60, 52), (196, 148, 70)), 0.1, 0.03, 0.03, 0.04, "grain", 3.0)),
    ("cargo", MaterialSpec(
        ((212, 210, 204), (184, 188, 192), (172, 162, 136), (116, 134, 160)), 0.1, 0.04, 0.05, 0.06, "planks", 3.0)),
    ("bus", MaterialSpec(
        ((206, 178, 72), (164, 56, 50), (76, 128, 92), (190, 188, 178)), 0.08, 0.03, 0.03, 0.04, "grain", 3.0)),
    ("motorcycle", MaterialSpec(
        ((162, 46, 44), (44, 46, 50), (58, 80, 140), (120, 44, 44)), 0.1, 0.03, 0.03, 0.03, "grain", 2.0)),
    ("bicycle", MaterialSpec(
        ((56, 120, 134), (158, 72, 56), (122, 62, 108), (150, 152, 150)), 0.1, 0.03, 0.03, 0.03, "grain", 2.0)),
    ("glass", MaterialSpec(((58, 64, 70), (86, 94, 102)), 0.15, 0.02, 0.03, 0.08, "grain", 3.0)),
    ("tyre", MaterialSpec(((40, 40, 40),), 0.12, 0.02, 0.03, 0.02, "grain", 2.0)),
    ("metal", MaterialSpec(((136, 138, 140), (110, 110, 112)), 0.1, 0.02, 0.05, 0.03, "grain", 2.0)),
    ("skin", MaterialSpec(((190, 150, 128), (130, 96, 76), (168, 128, 104)), 0.1, 0.03, 0.03, 0.02, "grain", 1.0)),
    ("hair", MaterialSpec(
        ((48, 40, 34), (96, 78, 58), (34, 32, 32), (140, 134, 128)), 0.12, 0.03, 0.03, 0.02, "grain", 1.0)),
    ("top", MaterialSpec(
        ((166, 60, 56), (64, 90, 146), (196, 180, 96), (202, 200, 192), (88, 70, 110), (80, 82, 88)),
        0.12, 0.04, 0.06, 0.04, "grain", 1.0)),
    ("legs", MaterialSpec(
        ((56, 62, 78), (48, 48, 50), (96, 88, 76), (70, 72, 76)), 0.12, 0.04, 0.05, 0.03, "grain", 1.0)),
)  # fmt: skip

CAM = DomainSpec(
    name="cam",
    camera=CameraSpec(
        height=(1.75, 2.25), field_of_view=(53.0, 63.0), pitch=(-1.5, 3.0), yaw=(-6.0, 6.0), roll=(-1.2, 1.2),
        step=(1.5, 3.0), yaw_step=(0.8, 2.4), pitch_jitter=0.35,
    ),
    layout=LayoutSpec(
        lanes=(2, 3), lane_width=(2.9, 3.4), parking=0.5, verge=(0.8, 2.4), verge_share=0.4, sidewalk=(2.0, 3.8),
        yard=(0.0, 4.0), yard_grass=0.65, facade_height=(9.0, 28.0), facade_length=(7.0, 26.0), gap_share=0.4,
        gap_length=(4.0, 18.0), crossing_share=0.45, closed_share=0.4, fence_height=(1.2, 2.2), floor=(2.8, 4.0),
        window_width=(1.0, 2.4), window_share=(0.4, 0.7), tree_height=(4.0, 9.0), tree_aspect=(0.5, 0.95),
        tree_spacing=(6.0, 16.0), tree_share=0.65, pole_spacing=(7.0, 15.0), light_size=(1.25, 1.65),
        sign_size=(0.95, 1.3), board_share=0.35, tree_shapes=("round", "wide", "column"), tree_roughness=(0.3, 0.55),
    ),
    traffic=TrafficSpec(
        cars=(2, 5), trucks=(0, 2), buses=(0, 2), persons=(4, 7), bicycles=(2, 3), motorcycles=(2, 3),
        rider_share=0.45, parked_share=0.55, speed=(1.0, 3.4), cycle_speed=(0.4, 1.3), walk_speed=(0.1, 0.4),
        near=4.5, far=12.0, car_length=(3.6, 5.0), car_height=(1.4, 1.85), truck_length=(5.5, 10.0),
        truck_height=(2.6, 3.8), bus_length=(8.0, 13.0), bus_height=(2.9, 3.4), person_height=(1.5, 1.95),
        cycle_length=(1.6, 2.1), cabin=(0.55, 0.75),
    ),
    texture=TextureSpec(octaves=6, first=3, persistence=0.7, joints=0.5),
    light=LightSpec(
        sun_elevation=(18.0, 55.0), overcast_share=0.4, sun=(0.3, 0.55), ambient=(0.6, 0.75), warmth=(-0.02, 0.16),
        shadow_softness=(0.1, 0.7), haze=(0.0015, 0.005),
        sky_zenith=((150, 164, 184), (186, 190, 194), (118, 146, 182)),
        sky_horizon=((206, 208, 208), (222, 220, 212), (190, 198, 206)), cloud=((226, 226, 226), (196, 198, 202)),
        cloud_cover=(0.2, 0.95), haze_tint=((196, 198, 200), (206, 202, 192)),
    ),
    sensor=SensorSpec(
        exposure=(0.95, 1.15), flicker=0.04, vignette=(0.05, 0.2), gradient=(0.0, 0.15), white_balance=0.03,
        saturation=(0.85, 1.1), gamma=(0.85, 1.15), defocus=(0.35, 0.55), motion_blur=(0.0, 1.0), read_noise=(2.5, 4.5),
        shot_noise=(2.0, 4.0), coarse_noise=(0.8, 1.8), dirt=(1, 3), dirt_strength=(0.1, 0.3), glare=(0.0, 0.12),
        jpeg=(75, 93),
    ),
    materials=_MATERIALS,
)  # fmt: skip
