"""What was experienced, as data: episodes, pools of them on disk, and windows to learn from."""
