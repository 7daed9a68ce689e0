"""The parameters that make a domain of MiniStreet, field by field, in real units.

A range ``(low, high)`` is drawn uniformly; a count range includes both ends. The values are in the ``domain_*.py`` files and in
``variants.py``. Fields with a default came after clips had been rendered: where they have it they are left out of the JSON that
is hashed (``domains.spec_json``), and they change no pixel.
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
        end: where the street ends, metres ahead of the camera.
        poles_to: distance of the farthest pole, metres.
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
    end: float = 80.0
    poles_to: float = 32.0


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
        vehicles_to: distance of the farthest vehicle, metres.
        free_ahead: nothing stands nearer to the camera than this in its own lane, metres.
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
    vehicles_to: float = 45.0
    free_ahead: float = 7.0


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
        other, other_share: a share of the surfaces is of another material instead.
    """

    palette: tuple[Colour, ...]
    brightness: float
    hue: float
    detail: float
    stain: float
    tile: str
    period: float
    other: MaterialSpec | None = None
    other_share: float = 0.0


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
        sun_ahead: share of clips whose sun stands within 20 degrees of the street's direction.
        flare: strength of the veil around a sun ahead, per frame.
        lamps: strength of the street lamps, which hang over the street.
        headlights: strength of our own headlights.
        windows_lit: share of lit windows.
        bloom: light that bright things scatter around themselves, share.
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
    sun_ahead: float = 0.0
    flare: Range = (0.0, 0.0)
    lamps: Range = (0.0, 0.0)
    headlights: Range = (0.0, 0.0)
    windows_lit: float = 0.0
    bloom: float = 0.0


@dataclass(frozen=True)
class WeatherSpec:
    """Rain and fog. All zero is dry weather.

    Attributes:
        sunless: share of clips whose direct sun is gone, whatever the light says.
        fog: extinction on top of the light's haze, 1/metre.
        wet: how much the ground darkens and mirrors, 0..1.
        rain: density of falling streaks, 0..1, drawn anew for every frame.
        drops: on the lens; they stay where they are while the street moves on.
        drop_size: radius of a drop, share of the picture's height.
        wiper: share of frames that a wiper crosses; the drops before and after are others.
    """

    sunless: float = 0.0
    fog: Range = (0.0, 0.0)
    wet: Range = (0.0, 0.0)
    rain: Range = (0.0, 0.0)
    drops: Count = (0, 0)
    drop_size: Range = (0.0, 0.0)
    wiper: float = 0.0


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
        shake_share: share of frames that are blurred by a jerk of the camera.
        shake: length of that blur in any direction, pixels at 128 rows.
        exposure_share: share of frames that are over- or under-exposed.
        exposure_step: by how much, in stops (factors of 2).
        loss_share: share of frames in which part of the picture is lost in transmission.
        loss: height of the lost part, share of the picture's.
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
    shake_share: float = 0.0
    shake: Range = (0.0, 0.0)
    exposure_share: float = 0.0
    exposure_step: Range = (0.0, 0.0)
    loss_share: float = 0.0
    loss: Range = (0.0, 0.0)


Group = CameraSpec | LayoutSpec | TrafficSpec | TextureSpec | LightSpec | WeatherSpec | SensorSpec
Materials = tuple[tuple[str, MaterialSpec], ...]


@dataclass(frozen=True)
class Alternative:
    """What a group is in a share of the clips."""

    group: str
    share: float
    spec: Group | Materials


@dataclass(frozen=True)
class DomainSpec:
    """A domain and all of its parameters.

    Attributes:
        name: of the domain, or of the base of a mixture; random draws and texture tiles depend on it.
        own_draws: light, materials, weather and choices are drawn by generators of their own, so that a street stays where it
            is under another sky and in other colours.
        alternatives: what a clip's groups are drawn from, by shares; a group without any is always the field's.
    """

    name: str
    camera: CameraSpec
    layout: LayoutSpec
    traffic: TrafficSpec
    texture: TextureSpec
    light: LightSpec
    sensor: SensorSpec
    materials: Materials
    weather: WeatherSpec = WeatherSpec()
    own_draws: bool = False
    alternatives: tuple[Alternative, ...] = ()

    def material(self, name: str) -> MaterialSpec:
        """The material called ``name``; KeyError if there is none."""
        return dict(self.materials)[name]
