# SPDX-License-Identifier: Apache-2.0
# docker build -t ssd_ros .                                    Jazzy
# docker build -t ssd_ros --build-arg ROS_DISTRO=humble .      another distribution
# docs/install.md says how to run it.
ARG ROS_DISTRO=jazzy

FROM ros:${ROS_DISTRO}-ros-base AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-numpy python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /ws
COPY requirements.txt .
# ROS's messages are compiled for ROS's own NumPy: pip chooses wheels that fit it, and it stays.
RUN python3 -c "import numpy; print('numpy==' + numpy.__version__)" > constraints.txt \
    && pip3 install --no-cache-dir --target /opt/python -c constraints.txt -r requirements.txt \
    && rm -rf /opt/python/bin /opt/python/numpy /opt/python/numpy-* /opt/python/numpy.libs
COPY . src/ssd_ros
RUN . "/opt/ros/${ROS_DISTRO}/setup.sh" \
    && colcon build --merge-install --install-base /opt/ssd_ros

FROM ros:${ROS_DISTRO}-ros-core
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-aiohttp "ros-${ROS_DISTRO}-vision-msgs" \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/python /opt/python
COPY --from=build /opt/ssd_ros /opt/ssd_ros
# The Fast DDS profile needs a large /dev/shm: run with --ipc=host or --shm-size=1g.
ENV PYTHONPATH=/opt/python \
    FASTRTPS_DEFAULT_PROFILES_FILE=/opt/ssd_ros/share/ssd_ros/config/fastdds.xml \
    FASTDDS_DEFAULT_PROFILES_FILE=/opt/ssd_ros/share/ssd_ros/config/fastdds.xml \
    ROS_LOG_DIR=/tmp/ros_log \
    TORCH_HOME=/weights
# A volume on /weights keeps downloaded weights; whatever user runs the container may write there.
RUN install --directory --mode=1777 /weights \
    && printf '#!/bin/bash\nset -e\nsource /opt/ssd_ros/setup.bash\nexec "$@"\n' > /ssd_ros.sh \
    && chmod +x /ssd_ros.sh \
    && /ssd_ros.sh ros2 launch ssd_ros detector.launch.py --show-args > /dev/null \
    && /ssd_ros.sh ros2 run ssd_ros detector --help > /dev/null \
    && rm -rf /tmp/ros_log
# Fast DDS shares memory only between processes of one user: choose the camera driver's with --user.
USER 1000:1000
ENTRYPOINT ["/ssd_ros.sh"]
CMD ["ros2", "launch", "ssd_ros", "detector.launch.py"]
