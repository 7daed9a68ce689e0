"""The source domain: a tidy rendered city with clean light, smooth textures and a wide, low camera."""

from __future__ import annotations

from .spec import CameraSpec, DomainSpec, LayoutSpec, LightSpec, MaterialSpec, SensorSpec, TextureSpec, TrafficSpec

_MATERIALS: tuple[tuple[str, MaterialSpec], ...] = (
    ("asphalt", MaterialSpec(((92, 92, 96), (104, 104, 106), (82, 84, 90)), 0.08, 0.01, 0.05, 0.04, "grain", 4.0)),
    ("marking", MaterialSpec(((235, 235, 235), (240, 238, 225)), 0.03, 0.01, 0.02, 0.03, "grain", 4.0)),
    ("paving", MaterialSpec(
        ((168, 160, 152), (176, 164, 160), (158, 156, 156)), 0.07, 0.015, 0.05, 0.04, "slabs", 3.2)),
    ("kerb", MaterialSpec(((190, 190, 186),), 0.05, 0.01, 0.03, 0.02, "grain", 4.0)),
    ("wall", MaterialSpec(
        ((196, 150, 112), (172, 96, 76), (208, 184, 140), (150, 132, 128), (214, 168, 150), (184, 120, 84)),
        0.08, 0.03, 0.05, 0.04, "bricks", 4.8)),
    ("window", MaterialSpec(((58, 78, 104), (70, 92, 116)), 0.1, 0.02, 0.02, 0.05, "grain", 6.0)),
    ("door", MaterialSpec(((92, 64, 48), (60, 72, 92), (110, 50, 44)), 0.1, 0.03, 0.04, 0.03, "grain", 3.0)),
    ("roof", MaterialSpec(((120, 78, 66), (96, 90, 88)), 0.08, 0.02, 0.04, 0.04, "bricks", 3.0)),
    ("fence", MaterialSpec(((150, 108, 70), (128, 92, 62), (170, 132, 92)), 0.08, 0.02, 0.06, 0.04, "planks", 2.0)),
    ("foliage", MaterialSpec(((70, 140, 52), (84, 152, 60), (58, 124, 50)), 0.08, 0.03, 0.16, 0.06, "leaves", 2.4)),
    ("trunk", MaterialSpec(((104, 78, 56),), 0.08, 0.02, 0.1, 0.05, "planks", 1.0)),
    ("grass", MaterialSpec(((136, 184, 88), (150, 190, 96), (126, 174, 92)), 0.07, 0.02, 0.08, 0.05, "grass", 2.4)),
    ("pole", MaterialSpec(((120, 122, 126), (70, 74, 78)), 0.08, 0.01, 0.02, 0.02, "grain", 2.0)),
    ("housing", MaterialSpec(((36, 38, 40), (44, 44, 40)), 0.1, 0.01, 0.02, 0.02, "grain", 2.0)),
    ("sign_red", MaterialSpec(((206, 34, 38),), 0.06, 0.02, 0.01, 0.02, "grain", 2.0)),
    ("sign_blue", MaterialSpec(((32, 84, 190),), 0.06, 0.02, 0.01, 0.02, "grain", 2.0)),
    ("sign_green", MaterialSpec(((24, 122, 74), (32, 84, 190)), 0.06, 0.02, 0.01, 0.02, "grain", 2.0)),
    ("sign_yellow", MaterialSpec(((244, 206, 40),), 0.04, 0.02, 0.01, 0.02, "grain", 2.0)),
    ("sign_white", MaterialSpec(((244, 244, 244),), 0.03, 0.01, 0.01, 0.02, "grain", 2.0)),
    ("car", MaterialSpec(
        ((204, 36, 40), (36, 84, 192), (236, 200, 44), (238, 238, 240), (52, 156, 96), (60, 62, 68), (230, 120, 36)),
        0.07, 0.03, 0.01, 0.02, "grain", 3.0)),
    ("truck", MaterialSpec(
        ((40, 92, 170), (190, 44, 40), (238, 238, 236), (236, 160, 40)), 0.07, 0.03, 0.01, 0.02, "grain", 3.0)),
    ("cargo", MaterialSpec(((232, 230, 224), (206, 210, 214), (190, 176, 140)), 0.05, 0.02, 0.03, 0.03, "planks", 2.4)),
    ("bus", MaterialSpec(((238, 196, 40), (40, 140, 84), (220, 60, 48)), 0.05, 0.02, 0.01, 0.02, "grain", 3.0)),
    ("motorcycle", MaterialSpec(((200, 30, 36), (30, 30, 34), (30, 90, 200)), 0.06, 0.02, 0.02, 0.02, "grain", 2.0)),
    ("bicycle", MaterialSpec(((30, 150, 170), (220, 70, 40), (150, 40, 130)), 0.06, 0.02, 0.02, 0.02, "grain", 2.0)),
    ("glass", MaterialSpec(((48, 62, 78),), 0.08, 0.01, 0.01, 0.02, "grain", 3.0)),
    ("tyre", MaterialSpec(((30, 30, 32),), 0.1, 0.01, 0.02, 0.02, "grain", 2.0)),
    ("metal", MaterialSpec(((170, 172, 176),), 0.06, 0.01, 0.03, 0.02, "grain", 2.0)),
    ("skin", MaterialSpec(((224, 176, 146), (150, 104, 78), (196, 146, 114)), 0.06, 0.02, 0.02, 0.02, "grain", 1.0)),
    ("hair", MaterialSpec(((48, 36, 28), (120, 88, 50), (30, 28, 28)), 0.1, 0.02, 0.03, 0.02, "grain", 1.0)),
    ("top", MaterialSpec(
        ((200, 48, 52), (52, 96, 190), (240, 220, 90), (236, 236, 236), (96, 60, 140), (60, 160, 110)),
        0.08, 0.04, 0.03, 0.02, "grain", 1.0)),
    ("legs", MaterialSpec(((52, 66, 108), (60, 58, 60), (120, 104, 84)), 0.1, 0.03, 0.03, 0.02, "grain", 1.0)),
)  # fmt: skip

SIM = DomainSpec(
    name="sim",
    camera=CameraSpec(
        height=(1.35, 1.7), field_of_view=(62.0, 72.0), pitch=(-3.0, 1.0), yaw=(-5.0, 5.0), roll=(0.0, 0.0),
        step=(1.0, 2.0), yaw_step=(0.8, 2.4), pitch_jitter=0.15,
    ),
    layout=LayoutSpec(
        lanes=(2, 4), lane_width=(3.3, 3.9), parking=0.4, verge=(1.2, 2.2), verge_share=0.45, sidewalk=(2.4, 4.2),
        yard=(0.3, 3.5), yard_grass=0.75, facade_height=(7.0, 22.0), facade_length=(9.0, 20.0), gap_share=0.35,
        gap_length=(5.0, 14.0), crossing_share=0.4, closed_share=0.5, fence_height=(1.3, 2.0), floor=(3.0, 3.6),
        window_width=(1.3, 2.0), window_share=(0.5, 0.65), tree_height=(4.5, 7.5), tree_aspect=(0.6, 0.85),
        tree_spacing=(8.0, 15.0), tree_share=0.6, pole_spacing=(9.0, 16.0), light_size=(1.3, 1.7),
        sign_size=(1.0, 1.35), board_share=0.3, tree_shapes=("round", "cone"), tree_roughness=(0.12, 0.25),
    ),
    traffic=TrafficSpec(
        cars=(3, 6), trucks=(0, 2), buses=(0, 2), persons=(4, 7), bicycles=(2, 3), motorcycles=(2, 3),
        rider_share=0.4, parked_share=0.4, speed=(0.8, 2.6), cycle_speed=(0.3, 1.0), walk_speed=(0.1, 0.35),
        near=4.5, far=12.0, car_length=(3.9, 4.6), car_height=(1.4, 1.6), truck_length=(6.5, 9.0),
        truck_height=(2.9, 3.5), bus_length=(9.0, 12.0), bus_height=(2.9, 3.2), person_height=(1.65, 1.9),
        cycle_length=(1.8, 2.1), cabin=(0.5, 0.6),
    ),
    texture=TextureSpec(octaves=3, first=5, persistence=0.45, joints=0.8),
    light=LightSpec(
        sun_elevation=(35.0, 65.0), overcast_share=0.15, sun=(0.45, 0.6), ambient=(0.55, 0.65), warmth=(0.0, 0.06),
        shadow_softness=(0.05, 0.15), haze=(0.0005, 0.002), sky_zenith=((74, 134, 216), (92, 150, 224)),
        sky_horizon=((186, 212, 238), (202, 222, 240)), cloud=((248, 248, 250),), cloud_cover=(0.1, 0.4),
        haze_tint=((196, 214, 234),),
    ),
    sensor=SensorSpec(
        exposure=(0.85, 1.1), flicker=0.0, vignette=(0.0, 0.0), gradient=(0.0, 0.0), white_balance=0.02,
        saturation=(1.0, 1.1), gamma=(1.0, 1.0), defocus=(0.35, 0.45), motion_blur=(0.0, 0.0), read_noise=(2.0, 4.0),
        shot_noise=(0.0, 1.0), coarse_noise=(0.0, 0.0), dirt=(0, 0), dirt_strength=(0.0, 0.0), glare=(0.0, 0.0),
        jpeg=(0, 0),
    ),
    materials=_MATERIALS,
)  # fmt: skip
