"""Adaptive bitrate streaming (ABR): choose the bitrate of each next chunk of a video."""
