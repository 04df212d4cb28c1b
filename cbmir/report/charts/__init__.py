"""The charts, a file each, drawn by matplotlib from the rows of a statement under sql/report/.

Every chart can be read without color: lines differ in marker and dashes, what is extrapolated has open markers.
"""
