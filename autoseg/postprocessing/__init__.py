"""What is made of a finished mask: the objects in it, counted one by one.

Read `instances` first; `touching` takes apart those that share faces.
"""
