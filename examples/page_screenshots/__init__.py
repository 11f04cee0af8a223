"""Pictures of the live page, taken by a real Chromium of a real guarded process."""
