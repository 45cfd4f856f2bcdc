"""Layout of the ABR observation: the simulator fills it, pools and policies read it by these names.

A (6, W) float32 matrix, newest chunk in the last column; W is six, or the number of rungs if that
is more. `ABREnv` gives the meaning and the unit of each row.
"""

HISTORY = 6  # chunks that it reaches back
NUM_ROWS = 6
BITRATE, BUFFER, THROUGHPUT, DOWNLOAD, SIZES, REMAINING = range(NUM_ROWS)
TENS_S = 10.0  # buffer and download time are counted in tens of seconds
