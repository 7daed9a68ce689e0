"""Materials of an old town in autumn: what a class is made of here is seldom what it was made of in the city.

Roads are of pale cobbles, sidewalks of brick, houses plastered in cool colours, fences of green metal, trees and meadows have
turned, traffic lights are yellow. About a quarter of every palette is the city's own. Within the town the classes differ as much
as in the city: who learns the town by its labels can tell them apart.
"""

from __future__ import annotations

from .spec import Materials, MaterialSpec

MATERIALS: Materials = (
    ("asphalt", MaterialSpec(
        ((132, 124, 114), (118, 112, 106), (146, 136, 124), (96, 95, 98)), 0.07, 0.015, 0.12, 0.06, "cobbles", 3.2)),
    ("marking", MaterialSpec(((222, 220, 212), (224, 188, 72)), 0.06, 0.02, 0.05, 0.06, "grain", 5.2)),
    ("paving", MaterialSpec(
        ((156, 92, 74), (138, 86, 74), (172, 112, 90), (174, 162, 156)), 0.07, 0.02, 0.08, 0.06, "bricks", 3.2)),
    ("kerb", MaterialSpec(((170, 168, 160), (110, 106, 106)), 0.08, 0.02, 0.05, 0.04, "grain", 3.0)),
    ("wall", MaterialSpec(
        ((164, 178, 186), (122, 132, 142), (138, 158, 150), (206, 194, 160), (186, 172, 196), (196, 150, 112)),
        0.08, 0.03, 0.05, 0.06, "panels", 5.6)),
    ("window", MaterialSpec(((172, 190, 204), (44, 48, 54), (64, 84, 108)), 0.1, 0.02, 0.03, 0.06, "grain", 4.0)),
    ("door", MaterialSpec(((70, 58, 50), (160, 160, 150), (48, 70, 60)), 0.12, 0.03, 0.05, 0.04, "grain", 3.0)),
    ("roof", MaterialSpec(((152, 78, 58), (82, 84, 88)), 0.1, 0.03, 0.05, 0.04, "ribs", 3.0)),
    ("fence", MaterialSpec(
        ((58, 108, 82), (74, 118, 104), (92, 108, 112), (150, 108, 70)), 0.08, 0.03, 0.08, 0.04, "ribs", 2.0)),
    ("foliage", MaterialSpec(
        ((188, 110, 38), (160, 78, 36), (206, 156, 48), (84, 142, 56)), 0.08, 0.035, 0.18, 0.07, "leaves", 3.4)),
    ("trunk", MaterialSpec(((76, 68, 60), (130, 122, 110)), 0.1, 0.02, 0.1, 0.05, "planks", 1.0)),
    ("grass", MaterialSpec(
        ((186, 172, 112), (168, 156, 96), (150, 142, 84), (140, 182, 90)), 0.07, 0.03, 0.1, 0.07, "grass", 3.1)),
    ("pole", MaterialSpec(((96, 98, 98), (62, 80, 66), (130, 128, 124)), 0.1, 0.02, 0.03, 0.03, "grain", 2.0)),
    ("housing", MaterialSpec(((226, 178, 36), (40, 62, 48), (38, 40, 40)), 0.08, 0.02, 0.02, 0.02, "grain", 2.0)),
    ("sign_red", MaterialSpec(((206, 34, 38), (228, 112, 36)), 0.07, 0.02, 0.02, 0.03, "grain", 2.0)),
    ("sign_blue", MaterialSpec(((32, 84, 190), (60, 128, 84)), 0.07, 0.02, 0.02, 0.03, "grain", 2.0)),
    ("sign_green", MaterialSpec(((232, 196, 60), (150, 92, 48), (24, 122, 74)), 0.07, 0.02, 0.02, 0.03, "grain", 2.0)),
    ("sign_yellow", MaterialSpec(((232, 196, 48),), 0.06, 0.02, 0.02, 0.03, "grain", 2.0)),
    ("sign_white", MaterialSpec(((238, 238, 232), (240, 214, 96)), 0.05, 0.02, 0.02, 0.03, "grain", 2.0)),
    ("car", MaterialSpec(
        ((150, 152, 158), (110, 44, 66), (168, 196, 206), (84, 104, 84), (214, 206, 186), (204, 36, 40), (60, 62, 68)),
        0.08, 0.03, 0.02, 0.03, "grain", 3.0)),
    ("truck", MaterialSpec(
        ((92, 132, 76), (226, 122, 48), (120, 84, 140), (40, 92, 170)), 0.08, 0.03, 0.02, 0.03, "grain", 3.0)),
    ("cargo", MaterialSpec(
        ((76, 112, 168), (88, 136, 96), (196, 140, 84), (226, 224, 218)), 0.08, 0.03, 0.04, 0.04, "ribs", 3.0)),
    ("bus", MaterialSpec(
        ((218, 216, 206), (60, 110, 190), (150, 60, 120), (238, 196, 40)), 0.07, 0.02, 0.02, 0.03, "grain", 3.0)),
    ("motorcycle", MaterialSpec(
        ((238, 130, 30), (226, 108, 40), (100, 70, 170)), 0.08, 0.02, 0.02, 0.02, "grain", 2.0)),
    ("bicycle", MaterialSpec(
        ((120, 200, 70), (150, 214, 80), (236, 206, 50)), 0.08, 0.02, 0.02, 0.02, "grain", 2.0)),
    ("glass", MaterialSpec(((96, 116, 132), (48, 62, 78)), 0.12, 0.02, 0.02, 0.05, "grain", 3.0)),
    ("tyre", MaterialSpec(((40, 40, 40),), 0.12, 0.02, 0.02, 0.02, "grain", 2.0)),
    ("metal", MaterialSpec(((136, 138, 140), (110, 110, 112)), 0.1, 0.02, 0.04, 0.03, "grain", 2.0)),
    ("skin", MaterialSpec(((224, 176, 146), (130, 96, 76), (176, 130, 104)), 0.08, 0.02, 0.02, 0.02, "grain", 1.0)),
    ("hair", MaterialSpec(
        ((48, 36, 28), (150, 144, 138), (150, 76, 50), (214, 190, 130)), 0.1, 0.03, 0.03, 0.02, "grain", 1.0)),
    ("top", MaterialSpec(
        ((186, 76, 166), (206, 92, 150), (72, 170, 176), (60, 160, 110)),
        0.1, 0.04, 0.04, 0.03, "grain", 1.0)),
    ("legs", MaterialSpec(
        ((170, 150, 120), (96, 110, 136), (128, 60, 60), (60, 58, 60)), 0.1, 0.03, 0.03, 0.02, "grain", 1.0)),
)  # fmt: skip
