"""The method behind `gmm` and both `mumford-shah`: one scalar image of a brain, and which part of it is lesion.

`evidence` makes the image: how bright a voxel is on the channel that shows lesions, and how unlike its mirror image
across the plane of `mirror`; `ct` has what CT needs instead. `choice` takes, of many candidate regions, the one with
the steepest border; `regions` tells which connected parts of a region look like lesions, and makes a map of them;
`cores` adds what a lesion encloses.
`blocks` is the coarse grid on which that is done, `partition` the solver of the Mumford-Shah functional.
"""
