"""Parts of the removal of images from a study."""
