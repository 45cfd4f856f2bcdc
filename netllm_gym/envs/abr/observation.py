"""Layout of the ABR observation, for the simulator, pools and policies.

It is a (6, W) float32 matrix with the newest chunk in the last column; W is six, or the number of
rungs if that is larger. `ABREnv` documents the meaning and the unit of each row.
"""

HISTORY = 6  # chunks that are shown
NUM_ROWS = 6
BITRATE, BUFFER, THROUGHPUT, DOWNLOAD, SIZES, REMAINING = range(NUM_ROWS)
TENS_S = 10.0  # unit of buffer and download time
