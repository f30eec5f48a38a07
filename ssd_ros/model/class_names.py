# SPDX-License-Identifier: Apache-2.0
"""Class names of the public datasets, in the order of their pretrained networks."""

from __future__ import annotations

VOC = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()

# COCO numbers its 80 categories from 1 to 90 with gaps. torchvision's networks have an output for
# each number: the gaps get names too, so that names stay unique and indices stay right. Other
# implementations count the categories without gaps.
_COCO_NAMES = {
    1: "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant",
    13: "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe",
    27: "backpack,umbrella",
    31: "handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,"
    "skateboard,surfboard,tennis racket,bottle",
    46: "wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,"
    "hot dog,pizza,donut,cake,chair,couch,potted plant,bed",
    67: "dining table",
    70: "toilet",
    72: "tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator",
    84: "book,clock,vase,scissors,teddy bear,hair drier,toothbrush",
}
_BY_NUMBER = {
    first + i: name
    for first, names in _COCO_NAMES.items()
    for i, name in enumerate(names.split(","))
}
COCO = [_BY_NUMBER.get(number, f"unused {number}") for number in range(1, 91)]
COCO_80 = [_BY_NUMBER[number] for number in sorted(_BY_NUMBER)]
