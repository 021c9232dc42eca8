"""What runs in processes of its own: decoding what strangers send, indexing folders, drawing the map.

Each comes as a pair: the module that the server calls, and the program that it starts. A program speaks JSON lines.
"""
