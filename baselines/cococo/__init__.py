"""COCOCO: an image inpainting network with motion modules, steered by a text."""
