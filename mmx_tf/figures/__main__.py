"""`python -m mmx_tf.figures`."""

from absl import app

from mmx_tf import quiet
from mmx_tf.figures import make, options

if __name__ == "__main__":
    options.define()
    quiet.provoke_native_noise()
    app.run(make.main, flags_parser=make.parse_flags)
