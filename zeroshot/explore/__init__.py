"""The live page: labels are typed in a browser and the images of a folder sort themselves."""
