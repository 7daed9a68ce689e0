"""The parameters that make a domain of MiniStreet, field by field, in real units.

A range ``(low, high)`` is drawn uniformly; a count range includes both ends. The values are in ``domain_sim.py`` and
``domain_cam.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]
Count = tuple[int, int]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class CameraSpec:
    """Where the camera is, what it sees and how it moves.

    Attributes:
        height: above the road, metres.
        field_of_view: horizontal, degrees.
        pitch: upwards positive, degrees, constant in a clip.
        yaw: heading at the current frame, degrees, positive to the right of the road's direction.
        roll: degrees, constant in a clip.
        step: distance driven between two frames, metres.
        yaw_step: size of the turn between two frames, degrees (its sign is drawn).
        pitch_jitter: standard deviation of the pitch of each single frame, degrees (bumps).
    """

    height: Range
    field_of_view: Range
    pitch: Range
    yaw: Range
    roll: Range
    step: Range
    yaw_step: Range
    pitch_jitter: float


@dataclass(frozen=True)
class LayoutSpec:
    """The street: lengths in metres, shares in 0..1.

    Attributes:
        lanes: driving lanes of the whole road.
        lane_width: of one driving lane.
        parking: share of road sides with a parking lane, 2.2 m wide.
        verge: width of the grass strip between kerb and sidewalk.
        verge_share: share of road sides that have the strip.
        sidewalk: width of the sidewalk.
        yard: distance from sidewalk to facade line.
        yard_grass: share of yards with grass (terrain); the others are paved (sidewalk).
        facade_height: of a building.
        facade_length: of a building along the street.
        gap_share: share of stretches without a building.
        gap_length: of such a stretch.
        crossing_share: share of clips with a side street.
        closed_share: share of clips whose street ends in a building.
        fence_height: of a fence.
        floor: height of one storey.
        window_width: of a window.
        window_share: window width and height as a share of its cell, (low, high).
        tree_height: of a tree.
        tree_aspect: crown width over tree height.
        tree_spacing: between street trees.
        tree_share: share of sides with a row of street trees.
        pole_spacing: between poles on a side.
        light_size: height of a traffic light.
        sign_size: width of a round or triangular sign; boards are wider.
        board_share: share of signs that are wide boards.
        tree_shapes: names of the crown shapes.
        tree_roughness: raggedness of crowns, 0 = smooth outline.
    """

    lanes: Count
    lane_width: Range
    parking: float
    verge: Range
    verge_share: float
    sidewalk: Range
    yard: Range
    yard_grass: float
    facade_height: Range
    facade_length: Range
    gap_share: float
    gap_length: Range
    crossing_share: float
    closed_share: float
    fence_height: Range
    floor: Range
    window_width: Range
    window_share: Range
    tree_height: Range
    tree_aspect: Range
    tree_spacing: Range
    tree_share: float
    pole_spacing: Range
    light_size: Range
    sign_size: Range
    board_share: float
    tree_shapes: tuple[str, ...]
    tree_roughness: Range


@dataclass(frozen=True)
class TrafficSpec:
    """Things and their motion.

    Attributes:
        cars, trucks, buses: vehicles on the lanes and at the kerb, per clip.
        persons: people on foot, per clip.
        bicycles, motorcycles: two-wheelers, per clip.
        rider_share: share of moving two-wheelers with a rider on them.
        parked_share: share of vehicles standing at the kerb.
        speed: of moving vehicles, metres between two frames.
        cycle_speed: of moving two-wheelers, metres between two frames.
        walk_speed: of people, metres between two frames.
        near: distance of the nearest things, metres.
        far: distance of the farthest small things, metres.
        car_length, car_height, truck_length, truck_height, bus_length, bus_height: metres.
        person_height: metres.
        cycle_length: of a two-wheeler, metres.
        cabin: car cabin length as a share of the car's length.
    """

    cars: Count
    trucks: Count
    buses: Count
    persons: Count
    bicycles: Count
    motorcycles: Count
    rider_share: float
    parked_share: float
    speed: Range
    cycle_speed: Range
    walk_speed: Range
    near: float
    far: float
    car_length: Range
    car_height: Range
    truck_length: Range
    truck_height: Range
    bus_length: Range
    bus_height: Range
    person_height: Range
    cycle_length: Range
    cabin: Range


@dataclass(frozen=True)
class MaterialSpec:
    """One kind of surface.

    Attributes:
        palette: RGB colours, 0..255, one is drawn per clip or per instance.
        brightness: spread of a common brightness factor, standard deviation as a share.
        hue: spread of each channel on its own, standard deviation as a share.
        detail: contrast of the fine texture, share of the colour.
        stain: contrast of the coarse texture (dirt, wear), share of the colour.
        tile: name of the texture tile.
        period: size of the tile before it repeats, metres.
    """

    palette: tuple[Colour, ...]
    brightness: float
    hue: float
    detail: float
    stain: float
    tile: str
    period: float


@dataclass(frozen=True)
class TextureSpec:
    """Spectrum of the texture tiles.

    Attributes:
        octaves: number of octaves of noise.
        first: periods of the coarsest octave in a tile.
        persistence: amplitude of an octave relative to the coarser one.
        joints: strength of drawn joints (slabs, bricks, courses), 0..1.
    """

    octaves: int
    first: int
    persistence: float
    joints: float


@dataclass(frozen=True)
class LightSpec:
    """Sun, sky and air.

    Attributes:
        sun_elevation: degrees.
        overcast_share: share of clips without direct sun.
        sun: strength of the direct light.
        ambient: strength of the sky light.
        warmth: sun colour, red gain minus blue gain.
        shadow_softness: width of the shadow's edge, metres.
        haze: extinction of the air, 1/metre.
        sky_zenith, sky_horizon, cloud: palettes, RGB 0..255.
        cloud_cover: share of the sky under cloud.
        haze_tint: palette of the air light.
    """

    sun_elevation: Range
    overcast_share: float
    sun: Range
    ambient: Range
    warmth: Range
    shadow_softness: Range
    haze: Range
    sky_zenith: tuple[Colour, ...]
    sky_horizon: tuple[Colour, ...]
    cloud: tuple[Colour, ...]
    cloud_cover: Range
    haze_tint: tuple[Colour, ...]


@dataclass(frozen=True)
class SensorSpec:
    """From light to 8-bit frames. "Per frame" means drawn anew for every frame of a clip.

    Attributes:
        exposure: gain, drawn per clip.
        flicker: standard deviation of the gain per frame.
        vignette: loss of light in the corners, share.
        gradient: strength of a linear exposure gradient over the image, share.
        white_balance: standard deviation of the gain per channel, per clip.
        saturation: colourfulness factor.
        gamma: exponent of the tone curve.
        defocus: blur sigma, pixels at 128 rows.
        motion_blur: length of the streak, pixels at 128 rows, per frame.
        read_noise: standard deviation, grey levels of 255, per frame and pixel.
        shot_noise: standard deviation at full white, grey levels of 255, per frame and pixel.
        coarse_noise: standard deviation of noise about 4 pixels wide, grey levels of 255, per frame.
        dirt: number of soft smudges per frame.
        dirt_strength: how much a smudge veils, 0..1.
        glare: strength of a veil of scattered light, 0..1, per frame.
        jpeg: quality, 0 = no compression.
    """

    exposure: Range
    flicker: float
    vignette: Range
    gradient: Range
    white_balance: float
    saturation: Range
    gamma: Range
    defocus: Range
    motion_blur: Range
    read_noise: Range
    shot_noise: Range
    coarse_noise: Range
    dirt: Count
    dirt_strength: Range
    glare: Range
    jpeg: Count


@dataclass(frozen=True)
class DomainSpec:
    """A domain: its name and all of its parameters."""

    name: str
    camera: CameraSpec
    layout: LayoutSpec
    traffic: TrafficSpec
    texture: TextureSpec
    light: LightSpec
    sensor: SensorSpec
    materials: tuple[tuple[str, MaterialSpec], ...]

    def material(self, name: str) -> MaterialSpec:
        """The material called ``name``; KeyError if there is none."""
        return dict(self.materials)[name]
