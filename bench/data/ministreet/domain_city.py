"""Parameters of the domain ``city``: a tidy rendered city at noon in the colours of ``sim``, with fewer and larger things."""

from __future__ import annotations

from .domain_sim import SIM
from .spec import CameraSpec, DomainSpec, LayoutSpec, TrafficSpec

CITY = DomainSpec(
    name="city",
    camera=CameraSpec(
        height=(1.35, 1.7), field_of_view=(46.0, 54.0), pitch=(-4.0, 0.0), yaw=(-5.0, 5.0), roll=(0.0, 0.0),
        step=(0.9, 1.8), yaw_step=(0.6, 2.0), pitch_jitter=0.15,
    ),
    layout=LayoutSpec(
        lanes=(2, 3), lane_width=(3.2, 3.6), parking=0.1, verge=(1.6, 2.6), verge_share=0.5, sidewalk=(3.0, 5.0),
        yard=(0.5, 3.5), yard_grass=0.8, facade_height=(6.0, 15.0), facade_length=(9.0, 18.0), gap_share=0.45,
        gap_length=(6.0, 14.0), crossing_share=0.35, closed_share=0.6, fence_height=(1.7, 2.4), floor=(3.0, 3.6),
        window_width=(1.3, 2.0), window_share=(0.5, 0.65), tree_height=(5.0, 7.5), tree_aspect=(0.6, 0.85),
        tree_spacing=(9.0, 15.0), tree_share=0.35, pole_spacing=(8.0, 13.0), light_size=(1.6, 2.0),
        sign_size=(1.2, 1.6), board_share=0.3, tree_shapes=("round", "cone"), tree_roughness=(0.06, 0.15),
        end=34.0, poles_to=15.0,
    ),
    traffic=TrafficSpec(
        cars=(1, 3), trucks=(0, 1), buses=(0, 1), persons=(1, 2), bicycles=(0, 1), motorcycles=(0, 1),
        rider_share=0.4, parked_share=0.4, speed=(0.5, 1.6), cycle_speed=(0.2, 0.7), walk_speed=(0.08, 0.25),
        near=4.4, far=6.5, car_length=(3.9, 4.6), car_height=(1.4, 1.6), truck_length=(5.5, 7.5),
        truck_height=(2.7, 3.3), bus_length=(7.0, 9.5), bus_height=(2.8, 3.1), person_height=(1.65, 1.9),
        cycle_length=(1.8, 2.1), cabin=(0.5, 0.6), vehicles_to=14.0,
        free_ahead=4.2,
    ),
    texture=SIM.texture,
    light=SIM.light,
    sensor=SIM.sensor,
    materials=SIM.materials,
    own_draws=True,
)  # fmt: skip
