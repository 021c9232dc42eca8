"""Published generators by name: pipelines of `diffusers` that a vector of the space conditions.

    embedspace generate --from bark.wav --to image --space clip-h-clap --head diffusers:<folder or name>

head           what a head is asked by: its reference and options, no torch
base           the contract of a head: which tower's vectors it takes, how it draws, what it says of itself
registry       a head by the prefix of its reference; the type "pretrained" of a generator's configuration
files          its folder, revision, licence and digest; nothing is downloaded unless asked
fitting        which of the space's towers makes the vectors that it takes, proved on probes
vectors        unit rows of the space to the vectors that it was trained on
prior          the same by a published network; conditioning joins both with the fitting
pipelines      a pipeline of diffusers by its class: stable_unclip, kandinsky, ip_adapter, audioldm

A head from another package is registered by `register_head`, a further pipeline of diffusers by `register_pipeline`.
"""
