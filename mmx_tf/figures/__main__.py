"""`python -m mmx_tf.figures`."""

from absl import app

from mmx_tf.export.running.noise import provoke_native_noise
from mmx_tf.figures import make, options

if __name__ == "__main__":
    options.define()
    provoke_native_noise()
    app.run(make.main, flags_parser=make.parse_flags)
